//! From a pod, an image and the host's facts to an OCI runtime spec and the files beside it; pure.
