"""Text on disk to token shards on disk: reading, skipping what is broken, preparing, looking shards up."""
