//! Volumes: a pure plan, and the host task that carries it out.
