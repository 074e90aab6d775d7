//! What validation finds, printed as kubectl prints it (reference `pod-lifecycle.md` 1.2).

use std::fmt;

/// An object that validation refuses: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// `Pod`, `Service` …
    pub kind: &'static str,
    /// `metadata.name`, possibly empty.
    pub name: String,
    /// At least one.
    pub errors: Vec<FieldError>,
}

/// One field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `spec.containers[0].image`.
    pub field: String,
    /// `Required value` and the like.
    pub body: String,
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "The {} {:?} is invalid: ", self.kind, self.name)?;
        match self.errors.as_slice() {
            [error] => error.fmt(out),
            errors => errors.iter().try_for_each(|error| write!(out, "\n* {error}")),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.field, self.body)
    }
}

/// The path of a field.
#[derive(Debug, Clone)]
pub(super) struct At(String);

impl At {
    /// A field of the object itself.
    pub(super) fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of this one.
    pub(super) fn field(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    /// An item of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// A key of this map.
    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

/// The errors found so far.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    /// The value, unless something was wrong with the object.
    pub(super) fn finish<T>(self, kind: &'static str, name: Option<&str>, value: T) -> Result<T, Invalid> {
        match self.0 {
            errors if errors.is_empty() => Ok(value),
            errors => Err(Invalid { kind, name: name.unwrap_or_default().to_owned(), errors }),
        }
    }

    fn push(&mut self, at: &At, body: String) {
        self.0.push(FieldError { field: at.0.clone(), body });
    }

    /// A field is missing.
    pub(super) fn required(&mut self, at: &At, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.push(at, format!("Required value{colon}{detail}"));
    }

    /// A value is bad.
    pub(super) fn invalid(&mut self, at: &At, value: impl Shown, detail: impl fmt::Display) {
        self.push(at, format!("Invalid value: {}: {detail}", value.shown()));
    }

    /// A value is none of a set.
    pub(super) fn unsupported(&mut self, at: &At, value: &str, supported: &[&str]) {
        let supported: Vec<_> = supported.iter().map(|name| format!("{name:?}")).collect();
        self.push(at, format!("Unsupported value: {value:?}: supported values: {}", supported.join(", ")));
    }

    /// A value stands twice.
    pub(super) fn duplicate(&mut self, at: &At, value: &str) {
        self.push(at, format!("Duplicate value: {value:?}"));
    }

    /// A field may not be set.
    pub(super) fn forbidden(&mut self, at: &At, detail: &str) {
        self.push(at, format!("Forbidden: {detail}"));
    }

    /// A name refers to nothing.
    pub(super) fn not_found(&mut self, at: &At, value: &str) {
        self.push(at, format!("Not found: {value:?}"));
    }

    /// A list has too many items.
    pub(super) fn too_many(&mut self, at: &At, found: usize, max: usize) {
        self.push(at, format!("Too many: {found}: must have at most {max} items"));
    }

    /// A text or map is too large.
    pub(super) fn too_long(&mut self, at: &At, max: usize) {
        self.push(at, format!("Too long: may not be more than {max} bytes"));
    }

    /// Kubernetes has it, hull has not (design rule 9).
    pub(super) fn not_supported(&mut self, at: &At, why: &str) {
        self.push(at, format!("not supported by hull: {why}"));
    }
}

/// A value in an error: strings quoted, numbers and booleans bare.
pub(super) trait Shown {
    /// As text.
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for &String {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for i64 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for i32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for &serde_json::Value {
    fn shown(&self) -> String {
        self.to_string()
    }
}
