//! The only code that talks to the model hub or knows its cache.
