//! The lifecycle hooks' handlers (reference `pod-lifecycle.md` section 6): what counts as success, and the
//! `<err>` of a failure, before which the core puts whose hook it was.

use crate::probe::Ran;
use crate::probe::http::{Get, Got};

/// `User-Agent` of a hook's request.
pub const AGENT: &str = "kube-lifecycle/1.36";

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

/// Any response is a success, whatever its status code and whatever becomes of its body.
///
/// # Errors
/// There was no response.
pub fn judge_http(got: Got) -> Result<(), String> {
    match got {
        Got::Response { .. } | Got::Unread(_) => Ok(()),
        Got::Failed(error) | Got::PlainHttp(error) | Got::Error(error) => Err(error),
    }
}

/// The request to make when a server of plain HTTP was asked by HTTPS: what is secret stays at home.
#[must_use]
pub fn fall_back(request: Get) -> Get {
    let mut headers = request.headers;
    headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Authorization"));
    Get { https: false, headers, ..request }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_exec_hook_tells_command_code_and_output() {
        let command = vec!["sh".to_owned(), "-c".to_owned(), "exit 1".to_owned()];
        let ran = Ran { code: 1, timed_out: false, stdout: Vec::new(), stderr: b"no".to_vec() };
        assert_eq!(
            judge_exec(&command, &ran),
            Err("command 'sh -c exit 1' exited with 1: no, message: \"no\"".into())
        );
    }

    #[test]
    fn an_http_hook_answered_500_is_a_success() {
        assert_eq!(judge_http(Got::Response { status: 500, body: String::new() }), Ok(()));
    }

    #[test]
    fn an_http_hook_whose_answer_breaks_off_is_a_success() {
        assert_eq!(judge_http(Got::Unread("unexpected EOF".into())), Ok(()));
    }
}
