"""The command line: one verb a file. Heavy imports are inside the verbs, so that --help is quick."""
