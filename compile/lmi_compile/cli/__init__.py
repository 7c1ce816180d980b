"""The command line: words in, exit codes out; no work is done here."""
