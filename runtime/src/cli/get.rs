//! `hull get`

use std::collections::HashMap;

use serde_json::Value;

use super::context::Context;
use super::output::{self, Format};
use super::print::table::{Row, Table};
use super::print::{events, field, objects, pod};
use super::resource::{self, Kind, Target};
use super::{Error, Exit, Result, accept};
use crate::api::client::{Follower, Subject};
use crate::api::selector::Selector;

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// What to print: `TYPE [NAME…]` or `TYPE/NAME…`; types are pods, services, configmaps, secrets, events.
    #[arg(required = true, value_name = "TYPE [NAME]")]
    what: Vec<String>,
    /// Output format: wide, json, yaml, name or jsonpath=TEMPLATE.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Only objects with these labels, for example app=web,tier!=db.
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
    /// Objects of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// After printing, go on with every change.
    #[arg(short, long)]
    watch: bool,
    /// Print changes only.
    #[arg(long)]
    watch_only: bool,
    /// Print with each change what it was: ADDED, MODIFIED or DELETED.
    #[arg(long)]
    output_watch_events: bool,
    /// Print no column titles.
    #[arg(long)]
    no_headers: bool,
    /// Print the labels in a last column.
    #[arg(long)]
    show_labels: bool,
    /// It is no error if a named object does not exist.
    #[arg(long)]
    ignore_not_found: bool,
}

/// Objects of one kind, as far as they were found.
struct Found {
    kind: Kind,
    objects: Vec<Value>,
    /// One object was asked for by its name.
    single: bool,
}

impl Get {
    pub(super) async fn act(self, context: &Context) -> Result {
        let targets = resource::targets(&self.what)?;
        let selector = Selector::parse(&self.selector, "")?;
        if self.watch || self.watch_only {
            return self.follow(context, &targets).await;
        }
        let mut exit = Exit::Success;
        let mut found: Vec<Found> = Vec::new();
        for kind in kinds(&targets) {
            let (objects, worst) = self.collect(context, kind, &targets).await?;
            exit = exit.worse(worst);
            let objects = objects.into_iter().filter(|object| selector.matches(object)).collect();
            let single = targets.len() == 1 && targets[0].name.is_some();
            found.push(Found { kind, objects, single });
        }
        let any = found.iter().any(|found| !found.objects.is_empty());
        match &self.output {
            None | Some(Format::Wide) => self.tables(context, found)?,
            Some(format) => documents(context, format, found)?,
        }
        let table = matches!(self.output, None | Some(Format::Wide));
        if !any && table && exit == Exit::Success && targets.iter().all(|target| target.name.is_none()) {
            context.note(&nothing_found(context, self.all_namespaces));
        }
        Ok(exit)
    }

    /// The objects of one kind that the targets name; those that are missing are told.
    async fn collect(&self, context: &Context, kind: Kind, targets: &[Target]) -> Result<(Vec<Value>, Exit)> {
        let mut exit = Exit::Success;
        let mut found = Vec::new();
        for target in targets.iter().filter(|target| target.kind == kind) {
            match fetch(context, target, self.all_namespaces).await {
                Ok(objects) => found.extend(objects),
                Err(error) if self.ignore_not_found && error.is_not_found() => {}
                Err(error) => exit = context.report(&error),
            }
        }
        Ok((found, exit))
    }

    fn wide(&self) -> bool {
        self.output == Some(Format::Wide)
    }

    /// A table for each kind that has objects; with several kinds names tell theirs.
    fn tables(&self, context: &Context, found: Vec<Found>) -> Result<()> {
        let several = found.len() > 1;
        let mut first = true;
        for Found { kind, objects, .. } in found.into_iter().filter(|found| !found.objects.is_empty()) {
            let mut text = if first { String::new() } else { "\n".to_owned() };
            first = false;
            let rows: Vec<Row> =
                objects.iter().map(|object| self.row(context, kind, object, several)).collect();
            text.push_str(&self.table(context, kind).render(&rows));
            context.print(&text)?;
        }
        Ok(())
    }

    fn table(&self, context: &Context, kind: Kind) -> Table {
        let mut header = match kind {
            Kind::Pod => pod::header(self.wide()),
            Kind::Service => objects::service_header(self.wide()),
            Kind::ConfigMap => objects::config_map_header(),
            Kind::Secret => objects::secret_header(),
            Kind::Event => events::get_header(self.wide()),
        };
        if self.all_namespaces {
            header.insert(0, "NAMESPACE");
        }
        if self.output_watch_events {
            header.insert(0, "EVENT");
        }
        if self.show_labels {
            header.push("LABELS");
        }
        // TYPE says Normal or Warning for events alone.
        let table = Table::new(header).colored(context.color && matches!(kind, Kind::Pod | Kind::Event));
        if self.no_headers { table.without_header() } else { table }
    }

    fn row(&self, context: &Context, kind: Kind, object: &Value, with_kind: bool) -> Row {
        let now = context.now();
        let mut row = match kind {
            Kind::Pod => pod::row(object, self.wide(), now),
            Kind::Service => objects::service_row(object, self.wide(), now),
            Kind::ConfigMap => objects::config_map_row(object, now),
            Kind::Secret => objects::secret_row(object, now),
            Kind::Event => events::get_row(object, self.wide(), now),
        };
        if with_kind && kind != Kind::Event {
            row[0] = format!("{}/{}", kind.singular(), row[0]);
        }
        if self.all_namespaces {
            row.insert(0, field::text(object, "/metadata/namespace").to_owned());
        }
        if self.show_labels {
            let labels = field::pairs(object, "/metadata/labels");
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            row.push(if labels.is_empty() { "<none>".to_owned() } else { labels.join(",") });
        }
        row
    }

    /// `--watch`: what is there, then every change.
    async fn follow(&self, context: &Context, targets: &[Target]) -> Result {
        let kind = match kinds(targets).as_slice() {
            [kind @ (Kind::Pod | Kind::Event)] => *kind,
            [_] => return Err(Error::Usage("only pods and events can be watched".to_owned())),
            _ => {
                return Err(Error::Usage("you may only specify a single resource type to watch".to_owned()));
            }
        };
        let names: Vec<String> = targets.iter().filter_map(|target| target.name.clone()).collect();
        if names.len() > 1 {
            return Err(Error::Usage("you may watch one object by its name, or all of a type".to_owned()));
        }
        let mut table = self.table(context, kind);
        let (objects, exit) = self.collect(context, kind, targets).await?;
        if exit != Exit::Success {
            return Ok(exit);
        }
        let selector = Selector::parse(&self.selector, "")?;
        let objects: Vec<Value> = objects.into_iter().filter(|object| selector.matches(object)).collect();
        let mut shown: HashMap<String, u64> = objects.iter().map(identity).collect();
        if !self.watch_only {
            self.show(context, &mut table, (kind, "ADDED"), &objects)?;
        }
        let subject = Subject {
            namespace: (!self.all_namespaces).then(|| context.namespace().to_owned()),
            names,
            resource: kind.plural(),
            labels: self.selector.clone(),
        };
        let mut follower = Follower::new(&context.client, subject);
        while let Some(update) = follower.next().await {
            let update = update?;
            let (id, version) = identity(&update.object);
            let known = match update.kind.as_str() {
                "DELETED" => shown.remove(&id),
                _ => shown.insert(id, version),
            };
            if update.kind != "DELETED" && known.is_some_and(|known| version <= known) {
                continue;
            }
            let word = match (update.kind.as_str(), known) {
                ("DELETED", _) => "DELETED",
                (_, Some(_)) => "MODIFIED",
                (_, None) => "ADDED",
            };
            self.show(context, &mut table, (kind, word), &[update.object])?;
        }
        Ok(Exit::Success)
    }

    fn show(
        &self,
        context: &Context,
        table: &mut Table,
        (kind, word): (Kind, &str),
        objects: &[Value],
    ) -> Result<()> {
        let text = match &self.output {
            None | Some(Format::Wide) if objects.is_empty() => String::new(),
            None | Some(Format::Wide) => {
                let mut rows: Vec<Row> =
                    objects.iter().map(|object| self.row(context, kind, object, false)).collect();
                if self.output_watch_events {
                    rows.iter_mut().for_each(|row| row.insert(0, word.to_owned()));
                }
                table.render(&rows)
            }
            Some(format) => {
                objects.iter().map(|each| self.watched_document(format, kind, (word, each))).collect()
            }
        };
        context.print(&text)
    }

    fn watched_document(&self, format: &Format, kind: Kind, (word, object): (&str, &Value)) -> String {
        match format {
            Format::Json | Format::Yaml if self.output_watch_events => {
                output::object(format, kind, &serde_json::json!({"type": word, "object": object}))
            }
            Format::Yaml => format!("---\n{}", output::object(format, kind, object)),
            Format::JsonPath(_) => format!("{}\n", output::object(format, kind, object)),
            _ => output::object(format, kind, object),
        }
    }
}

/// What tells an object from others, and its version.
fn identity(object: &Value) -> (String, u64) {
    let text = |pointer| field::text(object, pointer);
    let id = match text("/metadata/uid") {
        "" => format!("{}/{}", text("/metadata/namespace"), text("/metadata/name")),
        uid => uid.to_owned(),
    };
    (id, text("/metadata/resourceVersion").parse().unwrap_or(0))
}

fn kinds(targets: &[Target]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for target in targets {
        if !kinds.contains(&target.kind) {
            kinds.push(target.kind);
        }
    }
    kinds
}

fn nothing_found(context: &Context, all_namespaces: bool) -> String {
    if all_namespaces {
        "No resources found".to_owned()
    } else {
        format!("No resources found in {} namespace.", context.namespace())
    }
}

/// Everything in one document.
fn documents(context: &Context, format: &Format, found: Vec<Found>) -> Result<()> {
    let single = matches!(found.as_slice(), [one] if one.single);
    if *format == Format::Name || single {
        for found in &found {
            for object in &found.objects {
                context.print(&output::object(format, found.kind, object))?;
            }
        }
        return Ok(());
    }
    let kind = found.first().map_or(Kind::Pod, |found| found.kind);
    let all = found.into_iter().flat_map(|found| found.objects).collect();
    context.print(&output::list(format, kind, all))
}

/// The objects that a target names.
///
/// # Errors
/// The named one does not exist, or a pod does not answer.
pub(super) async fn fetch(context: &Context, target: &Target, all_namespaces: bool) -> Result<Vec<Value>> {
    if target.name.is_some() && all_namespaces {
        return Err(Error::Usage("a resource cannot be retrieved by name across all namespaces".to_owned()));
    }
    let namespace = (!all_namespaces).then(|| context.namespace());
    match (target.kind, &target.name) {
        (Kind::Pod, Some(name)) => Ok(vec![context.client.pod(&context.pod(name)?).await?]),
        (Kind::Pod, None) => pods(context, all_namespaces).await,
        (Kind::Event, name) => {
            let mut all = Vec::new();
            for pod in context.pods(all_namespaces)? {
                all.extend(of_listed(context, context.client.events(&pod).await).unwrap_or_default());
            }
            events::sort(&mut all);
            named(all, Kind::Event, name.as_deref())
        }
        (kind, name) => named(accept::list(context.layout(), kind, namespace)?, kind, name.as_deref()),
    }
}

fn named(objects: Vec<Value>, kind: Kind, name: Option<&str>) -> Result<Vec<Value>> {
    let Some(name) = name else { return Ok(objects) };
    let found = objects.into_iter().find(|object| field::text(object, "/metadata/name") == name);
    found.map(|object| vec![object]).ok_or_else(|| Error::not_found(kind.plural(), name))
}

/// All pods that answer; one that goes away meanwhile is left out.
pub(super) async fn pods(context: &Context, all_namespaces: bool) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for pod in context.pods(all_namespaces)? {
        found.extend(of_listed(context, context.client.pod(&pod).await));
    }
    Ok(found)
}

/// What one of several pods answers. One that cannot answer is told of and hides none of the others.
fn of_listed<T>(context: &Context, answer: crate::api::client::Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.is_not_found() => None,
        Err(error) => {
            context.report(&error.into());
            None
        }
    }
}
