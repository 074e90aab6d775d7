//! `docs/fields.md` names every field that the raw objects have.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::*;

const DOCS: &str = include_str!("../../../../docs/fields.md");

/// Asks a struct for the names of its fields, which come back as the error.
struct Ask;

#[derive(Debug)]
struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join(", "))
    }
}

impl std::error::Error for Names {}

impl de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Ask {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<T: for<'de> Deserialize<'de> + fmt::Debug>() -> &'static [&'static str] {
    T::deserialize(Ask).unwrap_err().0
}

/// The lines of one section.
fn section(title: &str) -> &'static str {
    let start = DOCS.find(&format!("## {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    let text = &DOCS[start + 3..];
    &text[..text.find("\n## ").unwrap_or(text.len())]
}

#[test]
fn the_page_about_fields_names_them_all() {
    for (title, fields) in [
        ("metadata", fields::<ObjectMeta>()),
        ("Pod: spec", fields::<PodSpec>()),
        ("Containers and init containers", fields::<Container>()),
        ("Containers and init containers", fields::<EnvVarSource>()),
        ("Containers and init containers", fields::<Lifecycle>()),
        ("Volumes", fields::<Volume>()),
        ("Volumes", fields::<ProjectedSource>()),
        ("Security contexts", fields::<PodSecurityContext>()),
        ("Security contexts", fields::<SecurityContext>()),
        ("Service: spec", fields::<ServiceSpec>()),
    ] {
        assert!(!fields.is_empty());
        let section = section(title);
        for field in fields {
            assert!(section.contains(&format!("`{field}`")), "{title} lacks {field}");
        }
    }
}
