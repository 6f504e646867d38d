//! What `--model` means: built-in, path, alias, hub repository.
