//! Kubernetes objects as written: every field the API has is known by name, nothing is interpreted.
//!
//! These structs echo what they read, so that the API can show an object as it was applied. A field that
//! hull does not do is kept as [`Any`] until validation refuses it by name. Field docs are left to the
//! Kubernetes API reference; the names are the same in snake case.

mod config;
mod container;
mod handler;
mod meta;
mod pod;
mod security;
mod service;
mod volume;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use config::*;
pub use container::*;
pub use handler::*;
pub use meta::*;
pub use pod::*;
pub use security::*;
pub use service::*;
pub use volume::*;

/// A value that is kept but not looked into.
pub type Any = serde_json::Value;

/// Whether a field is left out when its object is written.
pub(super) trait Blank {
    /// Nothing was given.
    fn is_blank(&self) -> bool;
}

impl<T> Blank for Option<T> {
    fn is_blank(&self) -> bool {
        self.is_none()
    }
}

impl<T> Blank for Vec<T> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Blank for BTreeMap<K, V> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

/// Declares objects whose fields are all optional and are left out when blank.
macro_rules! objects {
    ($($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$outer])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $(
                #[doc = concat!("`", stringify!($field), "` as the Kubernetes API has it.")]
                #[serde(skip_serializing_if = "crate::manifest::raw::Blank::is_blank")]
                $(#[$inner])*
                pub $field: $type,
            )*
        }

        impl crate::manifest::raw::Blank for $name {
            fn is_blank(&self) -> bool {
                false
            }
        }
    )*};
}
pub(super) use objects;

/// A number or a name, as ports are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A name.
    String(String),
}

impl fmt::Display for IntOrString {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(out),
            Self::String(name) => name.fmt(out),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = IntOrString;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a number or a name")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<IntOrString, E> {
                let number = i32::try_from(value);
                number
                    .map(IntOrString::Int)
                    .map_err(|_| E::custom(format_args!("the number {value} is too large")))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<IntOrString, E> {
                self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
            }

            fn visit_str<E>(self, value: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(value.to_owned()))
            }
        }
        from.deserialize_any(Either)
    }
}

/// An amount such as `100m`, `1.5` or `64Mi`, as written; a bare number is read as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity(pub String);

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a quantity such as 500m or 64Mi")
            }

            fn visit_i64<E>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Quantity, E> {
                Ok(Quantity(value.trim().to_owned()))
            }
        }
        from.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests;
