//! The probes' handlers: exec, httpGet, tcpSocket.
