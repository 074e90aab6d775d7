//! `hull events`

use serde_json::Value;

use super::context::Context;
use super::output::{self, Format};
use super::print::table::{Row, Table};
use super::print::{events, field};
use super::resource::{self, Kind, Target};
use super::{Error, Exit, Result, get};
use crate::api::client::{Follower, Subject};

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    /// Only events about this pod: `pod/web`.
    #[arg(long = "for", value_name = "TYPE/NAME")]
    about: Option<String>,
    /// Only events of these types: Normal, Warning.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    types: Vec<String>,
    /// Events of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Go on with events as they happen.
    #[arg(short, long)]
    watch: bool,
    /// Print no column titles.
    #[arg(long)]
    no_headers: bool,
    /// Output format: json, yaml, name or jsonpath=TEMPLATE.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

impl Events {
    pub(super) async fn act(self, context: &Context) -> Result {
        for kind in &self.types {
            if !["normal", "warning"].contains(&kind.to_lowercase().as_str()) {
                return Err(Error::Usage(format!("valid --types are Normal or Warning, not {kind:?}")));
            }
        }
        let about = self.about.as_deref().map(resource::pod_name).transpose()?;
        let target = Target { kind: Kind::Event, name: None };
        let mut listed = get::fetch(context, &target, self.all_namespaces).await?;
        listed.retain(|event| self.wanted(event, about.as_deref()));
        let mut table = self.table(context);
        if listed.is_empty() && !self.watch {
            context.note(&match self.all_namespaces {
                true => "No events found.".to_owned(),
                false => format!("No events found in {} namespace.", context.namespace()),
            });
            return Ok(Exit::Success);
        }
        match &self.output {
            None | Some(Format::Wide) if listed.is_empty() => {}
            None | Some(Format::Wide) => self.show(context, &mut table, &listed)?,
            Some(format) => context.print(&output::list(format, Kind::Event, listed.clone()))?,
        }
        if self.watch { self.follow(context, &mut table, (about, listed)).await } else { Ok(Exit::Success) }
    }

    fn wanted(&self, event: &Value, about: Option<&str>) -> bool {
        let of_type = |kind: &String| kind.eq_ignore_ascii_case(field::text(event, "/type"));
        (self.types.is_empty() || self.types.iter().any(of_type))
            && about.is_none_or(|name| field::text(event, "/involvedObject/name") == name)
    }

    fn table(&self, context: &Context) -> Table {
        let mut header = events::header();
        if self.all_namespaces {
            header.insert(0, "NAMESPACE");
        }
        let table = Table::new(header).colored(context.color);
        if self.no_headers { table.without_header() } else { table }
    }

    fn show(&self, context: &Context, table: &mut Table, events: &[Value]) -> Result<()> {
        let row = |event: &Value| -> Row {
            let mut row = events::row(event, context.now());
            if self.all_namespaces {
                row.insert(0, field::text(event, "/metadata/namespace").to_owned());
            }
            row
        };
        context.print(&table.render(&events.iter().map(row).collect::<Vec<_>>()))
    }

    async fn follow(
        &self,
        context: &Context,
        table: &mut Table,
        (about, listed): (Option<String>, Vec<Value>),
    ) -> Result {
        let subject = Subject {
            namespace: (!self.all_namespaces).then(|| context.namespace().to_owned()),
            names: about.clone().into_iter().collect(),
            resource: "events",
            labels: String::new(),
        };
        let mut follower = Follower::new(&context.client, subject);
        while let Some(update) = follower.next().await {
            let event = update?.object;
            if !self.wanted(&event, about.as_deref()) || listed.contains(&event) {
                continue;
            }
            match &self.output {
                None | Some(Format::Wide) => self.show(context, table, &[event])?,
                Some(format) => context.print(&output::object(format, Kind::Event, &event))?,
            }
        }
        Ok(Exit::Success)
    }
}
