//! The probes' handlers: exec, httpGet, tcpSocket, grpc. One attempt in, one [`Outcome`] out; counting and
//! thresholds are the core's (reference `pod-lifecycle.md` section 5).
//!
//! The supervisor lives in the pod's network namespace and dials the *pod IP*, as the kubelet does from
//! outside, so that a server on loopback alone fails its probe here too (reference 13.1).

pub mod grpc;
pub mod http;
pub mod tcp;
mod tls;
pub mod url;

use crate::core::input::Outcome;
use crate::manifest::pod::{Container, Port};

/// Most bytes of a probe's output that are kept (reference 5.5, 5.6).
pub const OUTPUT_LIMIT: usize = 10 * 1024;

/// A port by number, or by the name of one of this container's ports, or a number written as a name.
///
/// # Errors
/// The kubelet's text for a name that is neither.
pub fn resolve_port(port: &Port, container: &Container) -> Result<u16, String> {
    let name = match port {
        Port::Number(number) => return Ok(*number),
        Port::Name(name) => name,
    };
    let named = container.ports.iter().find(|port| port.name.as_deref() == Some(name));
    match named {
        Some(port) => Ok(port.port),
        None => name.parse().map_err(|_| format!("strconv.Atoi: parsing {name:?}: invalid syntax")),
    }
}

/// The verdict on a command that ran (reference 5.5).
#[must_use]
pub fn judge_exec(command: &[String], ran: &Ran, timeout_seconds: u32) -> Outcome {
    if ran.timed_out {
        let command = command.join(" ");
        return Outcome::Failure(format!(
            "command timed out: {command:?} timed out after {timeout_seconds}s"
        ));
    }
    match ran.code {
        0 => Outcome::Success,
        _ => Outcome::Failure(ran.output()),
    }
}

/// A command that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Exit status, or 128 plus the signal.
    pub code: i32,
    /// It was killed at its time limit.
    pub timed_out: bool,
    /// At most [`OUTPUT_LIMIT`] bytes.
    pub stdout: Vec<u8>,
    /// At most [`OUTPUT_LIMIT`] bytes.
    pub stderr: Vec<u8>,
}

impl Ran {
    /// All of stdout, then all of stderr, cut at [`OUTPUT_LIMIT`].
    #[must_use]
    pub fn output(&self) -> String {
        let mut output = self.stdout.clone();
        output.extend_from_slice(&self.stderr);
        output.truncate(OUTPUT_LIMIT);
        String::from_utf8_lossy(&output).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, timed_out: bool) -> Ran {
        Ran { code, timed_out, stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec() }
    }

    #[test]
    fn an_exec_probe_fails_with_both_outputs_and_a_timeout_names_the_command() {
        let command = ["cat".to_owned(), "/tmp/x".to_owned()];
        assert_eq!(judge_exec(&command, &ran(0, false), 1), Outcome::Success);
        assert_eq!(judge_exec(&command, &ran(7, false), 1), Outcome::Failure("out\nerr\n".into()));
        assert_eq!(
            judge_exec(&command, &ran(137, true), 1),
            Outcome::Failure("command timed out: \"cat /tmp/x\" timed out after 1s".into())
        );
    }
}
