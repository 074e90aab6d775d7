//! Plans for every field, on both versions.
