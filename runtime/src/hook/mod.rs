//! The lifecycle hooks' handlers (reference `pod-lifecycle.md` section 6): what counts as success, and the
//! words for a failure.

use crate::manifest::pod::{Handler, HttpGet};
use crate::probe::Ran;
use crate::probe::http::Got;

/// `User-Agent` of a hook's request.
pub const AGENT: &str = "kube-lifecycle/1.36";

/// A hook's failure, in the kubelet's words, for `waiting.message` (6.3).
#[must_use]
pub fn failure(handler: &Handler, container: &str, pod: &str, error: &str) -> String {
    let what = match handler {
        Handler::Exec(command) => format!("Exec lifecycle hook ([{}])", command.join(" ")),
        Handler::HttpGet(HttpGet { path, .. }) => format!("HTTP lifecycle hook ({path})"),
        Handler::Sleep { seconds } => format!("Sleep lifecycle hook ({seconds})"),
        Handler::TcpSocket { .. } | Handler::Grpc { .. } => "Lifecycle hook".to_owned(),
    };
    format!("{what} for Container {container:?} in Pod {pod:?} failed - error: {error}")
}

/// Whether a command that ran was a success; `<err>, message: "<output>"` if not.
///
/// # Errors
/// It exited with another code than 0.
pub fn judge_exec(command: &[String], ran: &Ran) -> Result<(), String> {
    if ran.code == 0 {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&ran.stderr);
    let command = command.join(" ");
    Err(format!("command '{command}' exited with {}: {stderr}, message: {:?}", ran.code, ran.output()))
}

/// Any response is a success, whatever its status code.
///
/// # Errors
/// There was no response.
pub fn judge_http(got: Got) -> Result<(), String> {
    match got {
        Got::Response { .. } => Ok(()),
        Got::Failed(error) | Got::Error(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_exec_hook_names_command_container_and_pod() {
        let command = vec!["sh".to_owned(), "-c".to_owned(), "exit 1".to_owned()];
        let ran = Ran { code: 1, timed_out: false, stdout: Vec::new(), stderr: b"no".to_vec() };
        let error = judge_exec(&command, &ran).unwrap_err();
        assert_eq!(
            failure(&Handler::Exec(command), "app", "web_default(uid)", &error),
            "Exec lifecycle hook ([sh -c exit 1]) for Container \"app\" in Pod \"web_default(uid)\" failed - \
             error: command 'sh -c exit 1' exited with 1: no, message: \"no\""
        );
    }

    #[test]
    fn an_http_hook_answered_500_is_a_success() {
        assert_eq!(judge_http(Got::Response { status: 500, body: String::new() }), Ok(()));
    }
}
