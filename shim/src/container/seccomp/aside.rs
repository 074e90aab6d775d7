//! A configuration is parsed without its seccomp profile where the filter of that very text was compiled before: the profile
//! is most of what there is to parse, and nearly the same in every container.
//!
//! **Invariant:** a filter is found by a text only when it was compiled from this text, and is given to a configuration only
//! when the text stands at `linux.seccomp`: a stand-in that takes its place while the rest is parsed has to come out there, and there
//! is no other key of that name, nor one that could be spelled so with escapes. So no container gets the filter of another, nor
//! does a later one.

use std::rc::Rc;

use oci_spec::runtime::{LinuxSeccomp, Spec};
use serde::de::IgnoredAny;

use super::{Arch, Cache, Error, Filter};

/// Takes the place of the profile. Should it ever stay there, it lets nothing run.
const STAND_IN: &str = r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS","listenerMetadata":"set aside"}"#;
const NAME: &str = "\"seccomp\"";
/// How an escape of one of its letters begins.
const ESCAPES: [&str; 2] = ["\\u006", "\\u007"];

/// What is known of the filter of a configuration that was read.
#[derive(Debug)]
pub(crate) enum KnownFilter {
    /// It has none, or one that is compiled each time.
    Nothing,
    /// It was compiled before, and the specification is without its profile.
    Filter(Rc<Filter>),
    /// It is yet to be compiled from this text.
    Text(Box<str>),
}

/// Parses a configuration by `parse`, which may tell something besides, with the help of what `filters` has.
pub(crate) fn read<T, E>(
    config: &[u8],
    filters: &mut Cache,
    parse: impl Fn(&[u8]) -> Result<(Box<Spec>, T), E>,
) -> Result<(Box<Spec>, T, KnownFilter), E> {
    let Some(aside) = Aside::find(config) else {
        return parse(config).map(|(spec, more)| (spec, more, KnownFilter::Nothing));
    };
    if let Some(filter) = filters.find(aside.profile, Arch::NATIVE)
        && let Ok((mut spec, more)) = parse(&aside.rest())
        && take(&mut spec)
    {
        return Ok((spec, more, KnownFilter::Filter(filter)));
    }
    parse(config).map(|(spec, more)| (spec, more, KnownFilter::Text(aside.profile.into())))
}

impl Cache {
    /// The filter of a configuration that was read, if it has one.
    pub(crate) fn filter(&mut self, spec: &Spec, known: &KnownFilter) -> Result<Option<Rc<Filter>>, Error> {
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        match (known, profile) {
            (KnownFilter::Filter(filter), _) => Ok(Some(Rc::clone(filter))),
            (_, None) => Ok(None),
            (KnownFilter::Text(text), Some(profile)) if is_of(text, profile) => {
                self.compile(text, profile, Arch::NATIVE).map(Some)
            }
            (_, Some(profile)) => super::compile(profile, Arch::NATIVE).map(|filter| Some(Rc::new(filter))),
        }
    }
}

/// Whether a text is this profile.
fn is_of(text: &str, profile: &LinuxSeccomp) -> bool {
    serde_json::from_str::<LinuxSeccomp>(text).is_ok_and(|found| found == *profile)
}

/// Takes the stand-in out; false if it is not there.
fn take(spec: &mut Spec) -> bool {
    let linux = spec.linux_mut().as_mut();
    linux.is_some_and(|linux| {
        let found = linux.seccomp().as_ref().is_some_and(|profile| is_of(STAND_IN, profile));
        if found {
            linux.set_seccomp(None);
        }
        found
    })
}

/// Where a profile may stand in a configuration.
struct Aside<'a> {
    before: &'a str,
    profile: &'a str,
    after: &'a str,
}

impl<'a> Aside<'a> {
    /// None where there is no profile, or none that can be told apart by its text: one with a listener, which others
    /// ask for, or with escapes.
    fn find(config: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(config).ok()?;
        // Most have no escape at all, which is found out sooner.
        if text.contains('\\') && ESCAPES.iter().any(|escape| text.contains(escape)) {
            return None;
        }
        let (start, rest) = text.split_once(NAME)?;
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let (profile, after) = value.split_at_checked(values.byte_offset())?;
        let before = text.get(..text.len() - value.len())?;
        let is_plain = profile.starts_with('{')
            && !profile.contains('\\')
            && !["istener", "NOTIFY"].iter().any(|it| profile.contains(it));
        let is_only = !start.contains(NAME) && !after.contains(NAME);
        (is_plain && is_only).then_some(Self { before, profile, after })
    }

    fn rest(&self) -> Vec<u8> {
        [self.before, STAND_IN, self.after].concat().into_bytes()
    }
}
