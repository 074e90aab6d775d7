//! A layer under construction: paths and what they become, written as a sorted tar stream.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::{Result, failed};

/// 2026-01-01: the time of everything.
pub(crate) const TIME: u64 = 1_767_225_600;

#[derive(Clone)]
enum Content {
    Directory,
    Link(PathBuf),
    Copy(PathBuf),
    Text(String),
}

struct Node {
    content: Content,
    mode: u32,
    owner: u64,
}

/// Files by path.
#[derive(Default)]
pub(crate) struct Layer {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Layer {
    /// A directory.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: u64) {
        self.put(Path::new(path), Node { content: Content::Directory, mode, owner });
    }

    /// A file with this text.
    pub(crate) fn text(&mut self, path: &str, mode: u32, text: &str) {
        self.put(Path::new(path), Node { content: Content::Text(text.to_owned()), mode, owner: 0 });
    }

    /// A symlink.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.put(Path::new(path), Node { content: Content::Link(target.into()), mode: 0o777, owner: 0 });
    }

    /// A file, link or directory of `root`, at the same path.
    pub(crate) fn copy(&mut self, root: &Path, path: &Path) -> Result<()> {
        let source = root.join(path);
        let metadata = std::fs::symlink_metadata(&source).map_err(failed("look at", &source))?;
        let content = if metadata.is_dir() {
            Content::Directory
        } else if metadata.is_symlink() {
            Content::Link(std::fs::read_link(&source).map_err(failed("read", &source))?)
        } else {
            Content::Copy(source)
        };
        self.put(path, Node { content, mode: metadata.permissions().mode() & 0o7777, owner: 0 });
        Ok(())
    }

    fn put(&mut self, path: &Path, node: Node) {
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let directory = || Node { content: Content::Directory, mode: 0o755, owner: 0 };
            self.nodes.entry(parent.to_owned()).or_insert_with(directory);
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// The tar stream.
    pub(crate) fn tar(&self) -> Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            append(&mut builder, path, node).map_err(failed("pack", path))?;
        }
        builder.into_inner().map_err(|error| format!("cannot finish a layer: {error}"))
    }
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &Path, node: &Node) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.owner);
    header.set_gid(node.owner);
    header.set_mtime(TIME);
    header.set_size(0);
    match &node.content {
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, path, std::io::empty())
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, path, target)
        }
        Content::Copy(source) => {
            let data = std::fs::read(source)?;
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, path, data.as_slice())
        }
        Content::Text(text) => {
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes())
        }
    }
}

/// Every path below `root`, without it.
pub(crate) fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).map_err(failed("list", &directory))? {
            let entry = entry.map_err(failed("list", &directory))?;
            let path = entry.path();
            if entry.file_type().map_err(failed("look at", &path))?.is_dir() {
                waiting.push(path.clone());
            }
            found.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
        }
    }
    found.sort();
    Ok(found)
}
