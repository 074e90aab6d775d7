//! systemd's manager object: starting, changing and stopping a container's unit; org.freedesktop.systemd1(5).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bus::{Bus, Error, Peer, Until};
use super::message::{Message, Value};
use super::properties::Property;

/// How long systemd may take for one job, as runc has it.
const LIMIT: Duration = Duration::from_secs(30);

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                       interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// Whose manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The system's.
    System,
    /// A user's: his runtime directory and, where he has one, the address of his bus.
    User {
        /// `$XDG_RUNTIME_DIR`.
        runtime: PathBuf,
        /// `$DBUS_SESSION_BUS_ADDRESS`.
        bus: Option<String>,
    },
}

/// A connection to the manager.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
}

impl Owner {
    /// Where its manager may be reached, best first.
    fn peers(&self) -> Vec<Peer> {
        match self {
            Self::System => vec![
                Peer::Private("/run/systemd/private".into()),
                Peer::Bus("/run/dbus/system_bus_socket".into()),
            ],
            Self::User { runtime, bus } => {
                let named = bus.as_deref().and_then(bus_path).map(Peer::Bus);
                let usual = [Peer::Private(runtime.join("systemd/private")), Peer::Bus(runtime.join("bus"))];
                usual.into_iter().chain(named).collect()
            }
        }
    }
}

/// The path in an address like `unix:path=/run/user/1000/bus,guid=…`; the first such of a list.
fn bus_path(address: &str) -> Option<PathBuf> {
    address.split(';').find_map(|one| {
        let keys = one.strip_prefix("unix:")?;
        let path = keys.split(',').find_map(|key| key.strip_prefix("path="))?;
        // The specification escapes what is unusual in a path; such a path we do not look for.
        (!path.contains('%')).then(|| Path::new(path).to_owned())
    })
}

impl Manager {
    /// Connects.
    ///
    /// # Errors
    /// There is no systemd, or it does not let us in.
    pub fn connect(owner: &Owner) -> Result<Self, Error> {
        Self::connect_to(&owner.peers())
    }

    pub(super) fn connect_to(peers: &[Peer]) -> Result<Self, Error> {
        let until = Until::after(LIMIT);
        let mut bus = Bus::connect(peers, until)?;
        // Over its private socket systemd sends every signal, and knows no bus.
        let listening = bus.listen(REMOVED, until);
        if matches!(listening, Err(Error::Broken { .. } | Error::Malformed(_))) {
            return listening.map(|()| Self { bus });
        }
        let mut manager = Self { bus };
        manager.call("Subscribe", Vec::new(), until)?;
        Ok(manager)
    }

    fn call(&mut self, member: &str, body: Vec<Value>, until: Until) -> Result<Vec<Value>, Error> {
        self.bus.ask(Message::call(NAME, OBJECT, INTERFACE, member, body), until)
    }

    fn property(&mut self, name: &str) -> Result<String, Error> {
        let body = [INTERFACE, name].map(|text| Value::Text(text.to_owned())).to_vec();
        let message = Message::call(NAME, OBJECT, "org.freedesktop.DBus.Properties", "Get", body);
        let answer = self.bus.ask(message, Until::after(LIMIT))?;
        Ok(answer.first().and_then(Value::text).unwrap_or_default().to_owned())
    }

    /// systemd's version: 252 of `252.38-1~deb12u1`, 0 if it tells none.
    ///
    /// # Errors
    /// It does not answer.
    pub fn version(&mut self) -> Result<u32, Error> {
        Ok(version(&self.property("Version")?))
    }

    /// The group that the manager itself is in: below it are the units of a user's manager.
    ///
    /// # Errors
    /// It does not answer.
    pub fn control_group(&mut self) -> Result<PathBuf, Error> {
        self.property("ControlGroup").map(PathBuf::from)
    }

    /// Starts a transient unit and waits until it is there. What is left of a failed one of that name is cleared.
    ///
    /// # Errors
    /// systemd refuses it, or does not get it done in half a minute.
    pub fn start(&mut self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        let until = Until::after(LIMIT);
        let body = start_body(unit, properties);
        let answer = match self.call("StartTransientUnit", body.clone(), until) {
            Err(error) if error.is_existing_unit() => {
                // The second attempt tells what is wrong.
                crate::harmless(self.reset_failed(unit));
                self.call("StartTransientUnit", body, until)
            }
            answer => answer,
        };
        let result = answer.and_then(|answer| self.job_result(&answer, until));
        let result = match result.as_deref() {
            Ok("done") => return Ok(()),
            Ok(result) => Err(Error::Job { unit: unit.to_owned(), result: result.to_owned() }),
            Err(_) => result.map(drop),
        };
        // The failure above is what counts.
        crate::harmless(self.reset_failed(unit));
        result
    }

    /// Makes sure of a slice: starts it, or sets the limits of one that is there.
    ///
    /// # Errors
    /// As those of [`Manager::start`] and [`Manager::set`].
    pub fn ensure(&mut self, slice: &str, new: &[Property], limits: &[Property]) -> Result<(), Error> {
        match self.start(slice, new) {
            Err(error) if error.is_existing_unit() => self.set(slice, limits),
            started => started,
        }
    }

    /// Changes properties of a unit until the next boot.
    ///
    /// # Errors
    /// systemd refuses it.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        let body = vec![Value::Text(unit.to_owned()), Value::Bool(true), list(properties)];
        self.call("SetUnitProperties", body, Until::after(LIMIT)).map(drop)
    }

    /// Stops a unit and waits until it is gone; one that is not there is gone.
    ///
    /// # Errors
    /// systemd does not get it done in half a minute.
    pub fn stop(&mut self, unit: &str) -> Result<(), Error> {
        let until = Until::after(LIMIT);
        let body = [unit, "replace"].map(|text| Value::Text(text.to_owned())).to_vec();
        match self.call("StopUnit", body, until) {
            Ok(answer) => {
                self.job_result(&answer, until)?;
            }
            Err(Error::Answer { .. }) => {}
            Err(error) => return Err(error),
        }
        // Only a failed unit is left to be reset.
        crate::harmless(self.reset_failed(unit));
        Ok(())
    }

    /// Forgets a unit that failed.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn reset_failed(&mut self, unit: &str) -> Result<(), Error> {
        self.call("ResetFailedUnit", vec![Value::Text(unit.to_owned())], Until::after(LIMIT)).map(drop)
    }

    /// How the job ended whose path was answered.
    fn job_result(&mut self, answer: &[Value], until: Until) -> Result<String, Error> {
        let job = answer.first().and_then(Value::text).unwrap_or_default().to_owned();
        loop {
            let signal = self.bus.signal(until)?;
            if signal.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            if let [_, Value::Path(path), _, Value::Text(result)] = &signal.body[..]
                && *path == job
            {
                return Ok(result.clone());
            }
        }
    }
}

fn version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// What `StartTransientUnit` is called with.
pub(super) fn start_body(unit: &str, properties: &[Property]) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.to_owned());
    let others = Value::Array("(sa(sv))".to_owned(), Vec::new());
    vec![text(unit), text("replace"), list(properties), others]
}

fn list(properties: &[Property]) -> Value {
    let property = |property: &Property| {
        let value = Value::Variant(Box::new(property.value.clone()));
        Value::Tuple(vec![Value::Text(property.name.clone()), value])
    };
    Value::Array("(sv)".to_owned(), properties.iter().map(property).collect())
}
