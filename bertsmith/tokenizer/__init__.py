"""WordPiece vocabularies: training them, and loading those of others."""
