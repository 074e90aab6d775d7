//! The images: which packages, which files of our own, and how each wants to be run.
//!
//! All stand on one base layer, busybox, so that they share it. They behave like the images of the same
//! name on Docker Hub as far as the manifests and their readers can tell.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::layer::{Layer, walk};
use crate::packages::{MERGED, Tree};
use crate::{Result, archive, libraries, packages};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What nobody reads in a container.
const DROPPED: [&str; 16] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/menu",
    "usr/share/perl5",
    "usr/share/vim",
    "usr/share/apport",
    "usr/lib/systemd",
    "etc/init.d",
    "etc/ufw",
    "etc/logrotate.d",
    "etc/default",
];

/// One image.
pub(crate) struct Recipe {
    /// Its full name.
    pub(crate) name: String,
    /// The packages whose files it has, besides busybox.
    pub(crate) packages: Vec<&'static str>,
    /// The `config` of its configuration.
    pub(crate) config: Value,
    /// Puts files of our own over those of the packages.
    finish: fn(&mut Layer),
    /// More that is not wanted.
    without: &'static [&'static str],
}

impl Recipe {
    /// Its name as people write it, without a tag.
    fn short(&self) -> &str {
        let name = self.name.trim_end_matches(":latest").trim_start_matches("docker.io/");
        name.trim_start_matches("library/")
    }

    /// The archive's name without suffix.
    pub(crate) fn file_name(&self) -> String {
        self.short().replace('/', "-")
    }

    /// It has more than the base layer.
    pub(crate) fn has_layer(&self) -> bool {
        self.packages != BUSYBOX
    }

    /// The layer on top of the base.
    pub(crate) fn layer(&self, tree: &Tree) -> Result<Layer> {
        let wanted = |path: &PathBuf| {
            let dropped = DROPPED.iter().chain(self.without).any(|dropped| path.starts_with(dropped));
            !dropped && MERGED.iter().all(|(link, _)| !path.starts_with(link))
        };
        let files: Vec<PathBuf> = walk(&tree.own)?.into_iter().filter(wanted).collect();
        let mut layer = Layer::default();
        for file in &files {
            layer.copy(&tree.own, file)?;
        }
        for library in libraries::needed(tree, &files)? {
            layer.copy(&tree.dependencies, &library)?;
        }
        (self.finish)(&mut layer);
        Ok(layer)
    }
}

const BUSYBOX: [&str; 1] = ["busybox-static"];

/// The base layer: a Debian-shaped tree with busybox as every tool.
pub(crate) fn base(tree: &Tree) -> Result<Layer> {
    let mut layer = Layer::default();
    for (link, target) in MERGED {
        layer.directory(target, 0o755, 0);
        layer.link(link, target);
    }
    for (path, mode) in [
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("usr/local/bin", 0o755),
        ("var/log", 0o755),
        ("var/tmp", 0o1777),
    ] {
        layer.directory(path, mode, 0);
    }
    accounts(&mut layer, "", "");
    layer.text("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n");
    layer.link("var/run", "/run");
    layer.copy(&tree.own, Path::new("usr/bin/busybox"))?;
    let mut command = std::process::Command::new(tree.own.join("usr/bin/busybox"));
    for applet in packages::run(command.arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("usr/bin/{applet}"), "busybox");
    }
    Ok(layer)
}

fn accounts(layer: &mut Layer, users: &str, groups: &str) {
    let passwd = format!(
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
         www-data:x:33:33:www-data:/var/www:/bin/false\n{users}nobody:x:65534:65534:nobody:/home:/bin/false\n"
    );
    let group = format!("root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\n{groups}nogroup:x:65534:\n");
    layer.text("etc/passwd", 0o644, &passwd);
    layer.text("etc/group", 0o644, &group);
}

/// Every image.
pub(crate) fn all() -> Vec<Recipe> {
    vec![busybox(), nginx(), redis(), dnsutils()]
}

/// The names to ask for.
pub(crate) fn names() -> Vec<String> {
    all().iter().map(|recipe| recipe.short().to_owned()).collect()
}

/// The image of a name, `tutum/dnsutils` or `tutum-dnsutils`.
pub(crate) fn find(name: &str) -> Result<Recipe> {
    let known = |recipe: &Recipe| recipe.short() == name || recipe.file_name() == name;
    let found = all().into_iter().find(known);
    found.ok_or_else(|| format!("there is no image {name:?}; there are {}", names().join(", ")))
}

/// What tells an archive of this builder from one of another: its source.
pub(crate) fn stamp() -> String {
    let sources = [
        include_str!("main.rs"),
        include_str!("archive.rs"),
        include_str!("layer.rs"),
        include_str!("libraries.rs"),
        include_str!("packages.rs"),
        include_str!("recipe.rs"),
    ];
    archive::digest(sources.concat().as_bytes())
}

fn busybox() -> Recipe {
    Recipe {
        name: "docker.io/library/busybox:latest".into(),
        packages: BUSYBOX.into(),
        config: json!({"Env": [PATH], "Cmd": ["sh"]}),
        finish: |_| {},
        without: &[],
    }
}

fn nginx() -> Recipe {
    Recipe {
        name: "docker.io/library/nginx:latest".into(),
        packages: vec!["nginx", "nginx-common", "bash", "dash"],
        config: json!({
            "Env": [PATH],
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
            "Labels": {"maintainer": "hull"},
        }),
        finish: finish_nginx,
        without: &[
            "etc/nginx/sites-available",
            "etc/nginx/sites-enabled",
            "var/www",
            "etc/skel",
            "usr/bin/bashbug",
        ],
    }
}

/// The shell of Debian's images. That of busybox would run its own `nslookup` (and any other applet) rather
/// than the program of this name that the image is for.
fn debian_shell(layer: &mut Layer) {
    layer.link("usr/bin/sh", "dash");
}

fn finish_nginx(layer: &mut Layer) {
    debian_shell(layer);
    accounts(layer, "nginx:x:101:101:nginx user:/nonexistent:/bin/false\n", "nginx:x:101:\n");
    layer.text("docker-entrypoint.sh", 0o755, "#!/bin/sh\nset -e\nexec \"$@\"\n");
    layer.text("etc/nginx/nginx.conf", 0o644, NGINX);
    layer.text("etc/nginx/conf.d/default.conf", 0o644, NGINX_SITE);
    layer.text("usr/share/nginx/html/index.html", 0o644, NGINX_INDEX);
    layer.directory("var/lib/nginx", 0o755, 0);
    layer.directory("var/log/nginx", 0o755, 0);
    layer.link("var/log/nginx/access.log", "/dev/stdout");
    layer.link("var/log/nginx/error.log", "/dev/stderr");
}

const NGINX: &str = "\
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events {
    worker_connections 1024;
}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log combined;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
";

const NGINX_SITE: &str = "\
server {
    listen 80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
    error_page 500 502 503 504 /50x.html;
}
";

const NGINX_INDEX: &str = "\
<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body><h1>Welcome to nginx!</h1></body>
</html>
";

fn redis() -> Recipe {
    Recipe {
        name: "docker.io/library/redis:latest".into(),
        packages: vec!["redis-server", "redis-tools", "bash", "dash"],
        config: json!({
            "Env": [PATH],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["redis-server"],
            "WorkingDir": "/data",
            "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}},
        }),
        finish: |layer| {
            debian_shell(layer);
            accounts(layer, "redis:x:999:999::/data:/bin/false\n", "redis:x:999:\n");
            layer.directory("data", 0o755, 999);
            layer.text("usr/local/bin/docker-entrypoint.sh", 0o755, REDIS);
        },
        without: &["etc/redis", "lib/systemd", "etc/skel", "usr/bin/bashbug", "usr/bin/redis-benchmark"],
    }
}

/// Without a password, other containers are answered only with protected mode off.
const REDIS: &str = "\
#!/bin/sh
set -e
case \"${1:-}\" in
    -* | *.conf) set -- redis-server \"$@\" ;;
esac
if [ \"${1:-}\" = redis-server ]; then
    set -- \"$@\" --protected-mode no
fi
exec \"$@\"
";

fn dnsutils() -> Recipe {
    Recipe {
        name: "docker.io/tutum/dnsutils:latest".into(),
        packages: vec!["bind9-dnsutils", "bind9-host", "bash", "dash"],
        config: json!({"Env": [PATH], "Cmd": ["/bin/bash"]}),
        finish: debian_shell,
        without: &["etc/skel", "usr/bin/bashbug", "usr/bin/mdig", "usr/bin/nsupdate"],
    }
}
