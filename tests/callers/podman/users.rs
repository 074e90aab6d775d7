//! podman of an ordinary user.
