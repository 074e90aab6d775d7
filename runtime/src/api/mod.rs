//! The supervisor's socket: the Kubernetes API of its one pod, over HTTP/1.1 and JSON.
