//! The file systems of a container: its root, its mounts, devices, links, masks, and the change of root.
//!
//! Planning is pure; sources are opened in the maker, in the maker's namespaces; steps are performed in the
//! child, in the container's namespaces, and allocate nothing.
