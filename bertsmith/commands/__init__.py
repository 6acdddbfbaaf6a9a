"""What the command line can do, by subject: a function a command, whose arguments and docstring are its help."""
