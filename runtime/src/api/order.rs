//! Requests that ask the driver for something.

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use serde_json::{Value, json};

use super::body::{self, Body};
use super::query::Query;
use super::route::PodName;
use super::session;
use super::status::Status;
use super::upgrade::Upgrade;
use super::{Server, object};
use crate::driver::container::text_of;
use crate::driver::handle::{Order, Refusal, Session};
use crate::manifest;
use crate::manifest::pod::ContainerName;
use crate::manifest::raw::ObjectMeta;

/// Largest body of a request in bytes.
const LARGEST: usize = 1 << 20;

/// `DELETE …/pods/NAME`
pub(super) async fn delete(
    server: Server,
    request: Request<Incoming>,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let in_query = query.number("gracePeriodSeconds")?;
    let options = options(request).await?;
    let in_body = match &options["gracePeriodSeconds"] {
        Value::Null => None,
        Value::Number(number) if number.is_i64() => number.as_i64(),
        other => {
            return Err(Status::bad_request(format!("gracePeriodSeconds: {other} is not a whole number")));
        }
    };
    let grace_seconds = in_query.or(in_body);
    let view = server.handle.ask(|reply| Order::Delete { grace_seconds, reply }).await;
    let view = view.map_err(|refusal| Status::refused(&refusal))?;
    Ok(body::json(&object::pod(&view)))
}

/// `PUT …/pods/NAME`: the whole object, of which only some may differ.
pub(super) async fn replace(
    server: Server,
    request: Request<Incoming>,
    place: &PodName,
) -> Result<Response<Body>, Status> {
    let body = body_of(request).await?;
    let mut pod = manifest::load_request(&body).map_err(|error| Status::bad_request(text_of(&error)))?;
    put_in_place(&mut pod.metadata, place)?;
    let pod = Box::new(pod);
    let view = server.handle.ask(|reply| Order::Replace { pod, reply }).await;
    let view = view.map_err(|refusal| Status::refused(&refusal))?;
    Ok(body::json(&object::pod(&view)))
}

/// An object is where its path says, whether it says so itself or not.
fn put_in_place(meta: &mut ObjectMeta, place: &PodName) -> Result<(), Status> {
    let fill = |text: &mut Option<String>, usual: &String| {
        text.take().filter(|text| !text.is_empty()).unwrap_or_else(|| usual.clone())
    };
    let namespace = fill(&mut meta.namespace, &place.namespace);
    let name = fill(&mut meta.name, &place.name);
    if namespace != place.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    if name != place.name {
        let url = &place.name;
        let message = format!("the name of the object ({name}) does not match the name on the URL ({url})");
        return Err(Status::bad_request(message));
    }
    (meta.namespace, meta.name) = (Some(namespace), Some(name));
    Ok(())
}

/// The `DeleteOptions` of a request; null without a body.
async fn options(request: Request<Incoming>) -> Result<Value, Status> {
    let body = body_of(request).await?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| bad_body(&error))
}

async fn body_of(request: Request<Incoming>) -> Result<Bytes, Status> {
    let body = Limited::new(request.into_body(), LARGEST).collect().await;
    Ok(body.map_err(|error| bad_body(&error))?.to_bytes())
}

fn bad_body(error: &impl std::fmt::Display) -> Status {
    Status::bad_request(format!("the request's body: {error}"))
}

/// `PUT` and `DELETE` of a Service, ConfigMap or Secret: it is on disk already, and the driver looks there.
pub(super) async fn objects_changed(server: Server) -> Result<Response<Body>, Status> {
    server.handle.tell(Order::ObjectsChanged).await.map_err(|refusal| Status::refused(&refusal))?;
    Ok(body::json(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
}

/// `…/pods/NAME/exec`
pub(super) async fn exec(
    server: Server,
    mut request: Request<Incoming>,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let streams = streams(query)?;
    let container = container(&server, query)?;
    let args: Vec<String> = query.all("command").map(str::to_owned).collect();
    if args.is_empty() {
        return Err(Status::bad_request("you must specify at least one command for the container"));
    }
    check_running(&server, &container).await?;
    let (upgrade, response) = Upgrade::accept(&mut request, &session::PROTOCOLS)?;
    let tty = if streams.tty { Some(window(query)?) } else { None };
    let session =
        server.handle.ask(|reply| Order::Exec { container, args, tty, stdin: streams.stdin, reply }).await;
    begin(&server, session, (upgrade, streams))?;
    Ok(response)
}

/// `…/pods/NAME/attach`
pub(super) async fn attach(
    server: Server,
    mut request: Request<Incoming>,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let streams = streams(query)?;
    let container = container(&server, query)?;
    check_running(&server, &container).await?;
    let (upgrade, response) = Upgrade::accept(&mut request, &session::PROTOCOLS)?;
    let session = server.handle.ask(|reply| Order::Attach { container, stdin: streams.stdin, reply }).await;
    begin(&server, session, (upgrade, streams))?;
    Ok(response)
}

/// Refuses before the handshake what is known to be in vain: clients look for other protocols after a refused one,
/// and the last refusal is the one they show.
async fn check_running(server: &Server, container: &ContainerName) -> Result<(), Status> {
    check_alive(server)?;
    let running = {
        let status = &server.handle.snapshot().view.status;
        let mut all = status.init_container_statuses.iter().chain(&status.container_statuses);
        all.any(|each| each.name == container.as_str() && each.state.running.is_some())
    };
    if running {
        // The order itself is refused should it have ended just now.
        return Ok(());
    }
    let container = container.clone();
    let answer = server.handle.ask(|reply| Order::Running { container, reply }).await;
    answer.map_err(|refusal| Status::refused(&refusal))
}

/// Refuses what needs a pod that is not over.
pub(super) fn check_alive(server: &Server) -> Result<(), Status> {
    let phase = server.handle.snapshot().view.status.phase;
    match phase.is_terminal() {
        true => Err(Status::refused(&Refusal::Completed(format!("{phase:?}")))),
        false => Ok(()),
    }
}

/// Starts carrying bytes. A command that cannot be executed is told inside the session, as the kubelet does.
fn begin(
    server: &Server,
    session: Result<Session, Refusal>,
    (upgrade, streams): (Upgrade, session::Streams),
) -> Result<(), Status> {
    match session {
        Ok(session) => server.keep(session::run(upgrade, session, streams)),
        Err(refusal @ Refusal::Failed(_)) => {
            server.keep(session::refuse(upgrade, Status::refused(&refusal), streams));
        }
        Err(refusal) => return Err(Status::refused(&refusal)),
    }
    Ok(())
}

/// The size of the terminal's window at the start, which `hull exec` knows; other clients tell it on the resize channel later.
fn window(query: &Query) -> Result<(u16, u16), Status> {
    let side = |name, usual| {
        let number = query.number(name)?.map(u16::try_from).transpose();
        let number = number.map_err(|_| Status::bad_request(format!("{name}: not a size of a window")))?;
        Ok(number.filter(|side| *side > 0).unwrap_or(usual))
    };
    Ok((side("columns", 80)?, side("rows", 24)?))
}

/// Which streams are wanted.
fn streams(query: &Query) -> Result<session::Streams, Status> {
    let streams = session::Streams {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        tty: query.flag("tty"),
    };
    if streams.tty && streams.stderr {
        return Err(Status::bad_request("tty and stderr cannot both be true"));
    }
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Status::bad_request("you must specify at least one of stdin, stdout, stderr"));
    }
    Ok(streams)
}

/// The container that a request names, or the only one.
pub(super) fn container(server: &Server, query: &Query) -> Result<ContainerName, Status> {
    let object = &server.handle.snapshot().view.object;
    let names = |list: &str| -> Vec<&str> {
        let containers = object["spec"][list].as_array().map(Vec::as_slice).unwrap_or_default();
        containers.iter().filter_map(|container| container["name"].as_str()).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let pod = server.pod.name.as_str();
    match query.text("container") {
        Some(name) if main.contains(&name) || init.contains(&name) => Ok(ContainerName::new(name)),
        Some(name) => Err(Status::bad_request(format!("container {name} is not valid for pod {pod}"))),
        None if main.len() == 1 && init.is_empty() => Ok(ContainerName::new(main[0])),
        None => {
            let or_init = match init.as_slice() {
                [] => String::new(),
                init => format!(" or one of the init containers: [{}]", init.join(" ")),
            };
            let message = format!(
                "a container name must be specified for pod {pod}, choose one of: [{}]{or_init}",
                main.join(" ")
            );
            Err(Status::bad_request(message))
        }
    }
}
