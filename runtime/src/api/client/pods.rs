//! Which pods there are.

use std::fmt;
use std::io;
use std::path::Path;

use super::{Client, Error, Result, query};

/// A pod's place on disk and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Names its directory.
    pub uid: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

impl PodRef {
    /// The path of the pod in its API, with a subresource such as `/log`.
    #[must_use]
    pub fn path(&self, subresource: &str) -> String {
        format!("{}/{}{subresource}", self.collection("pods"), query::encode(&self.name))
    }

    /// The path of a collection in the pod's namespace.
    #[must_use]
    pub fn collection(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", query::encode(&self.namespace))
    }
}

impl Client {
    /// The pod of this name.
    ///
    /// # Errors
    /// The name link cannot be read.
    pub fn find(&self, namespace: &str, name: &str) -> Result<Option<PodRef>> {
        if !is_one_component(namespace) || !is_one_component(name) {
            return Ok(None);
        }
        let link = self.layout().name_link(namespace, name);
        match self.resolve(&link) {
            Ok(uid) => {
                Ok(uid.map(|uid| PodRef { namespace: namespace.to_owned(), name: name.to_owned(), uid }))
            }
            Err(source) => Err(Error::Read { path: link, source }),
        }
    }

    /// All pods, or those of one namespace, by namespace and name.
    ///
    /// # Errors
    /// The directory of name links cannot be read.
    pub fn list(&self, namespace: Option<&str>) -> Result<Vec<PodRef>> {
        // The parent of a namespace's directory of links.
        let names = self.layout().name_link("", "");
        let names = names.components().as_path();
        let namespaces = match namespace {
            Some(namespace) => vec![namespace.to_owned()],
            None => entries(names)?,
        };
        let mut pods = Vec::new();
        for namespace in namespaces {
            for name in entries(&names.join(&namespace))? {
                pods.extend(self.find(&namespace, &name)?);
            }
        }
        pods.sort();
        Ok(pods)
    }

    /// The uid that a name link points to; none if there is no link or no such pod any more.
    fn resolve(&self, link: &Path) -> io::Result<Option<String>> {
        let target = match std::fs::read_link(link) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            other => other?,
        };
        let uid = target.file_name().and_then(|uid| uid.to_str()).map(str::to_owned);
        Ok(uid.filter(|uid| self.layout().pod(uid).dir().is_dir()))
    }
}

/// The names in a directory, without hidden ones; none if there is no such directory.
fn entries(directory: &Path) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        let names =
            std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name().into_string()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names
            .into_iter()
            .filter_map(std::result::Result::ok)
            .filter(|name| !name.starts_with('.'))
            .collect())
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| Error::Read { path: directory.to_owned(), source }),
    }
}

/// Whether a text names something in a directory, and not a place elsewhere.
fn is_one_component(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_shim::layout::Layout;

    #[test]
    fn pods_are_found_by_their_name_links() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        let client = Client::new(layout.clone());
        assert_eq!(client.list(None).unwrap(), []);
        for (namespace, name, uid) in [("default", "web", "1"), ("default", "db", "2"), ("other", "web", "3")]
        {
            std::fs::create_dir_all(layout.pod(uid).dir()).unwrap();
            let link = layout.name_link(namespace, name);
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(format!("../../pods/{uid}"), link).unwrap();
        }
        std::fs::remove_dir(layout.pod("2").dir()).unwrap();
        let names = |pods: Vec<PodRef>| pods.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(client.list(None).unwrap()), ["default/web", "other/web"]);
        assert_eq!(names(client.list(Some("other")).unwrap()), ["other/web"]);
        assert_eq!(client.find("default", "web").unwrap().unwrap().uid, "1");
        assert_eq!(client.find("default", "db").unwrap(), None);
    }
}
