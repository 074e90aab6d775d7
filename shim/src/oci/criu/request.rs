//! What criu can be asked: `criu_req` of its `images/rpc.proto`, with the numbers of that file.

use super::wire::Message;

/// `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Write a process tree to a directory.
    Dump = 1,
    /// Make the tree of a directory run again.
    Restore = 2,
    /// Write memory alone, ahead of a dump.
    PreDump = 4,
    /// An answer to a notice.
    Notify = 6,
    /// What criu and the kernel can do.
    FeatureCheck = 9,
    /// Which criu it is.
    Version = 10,
}

impl Kind {
    /// As runc's errors have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dump => "DUMP",
            Self::Restore => "RESTORE",
            Self::PreDump => "PRE_DUMP",
            Self::Notify => "NOTIFY",
            Self::FeatureCheck => "FEATURE_CHECK",
            Self::Version => "VERSION",
        }
    }
}

/// Fields of `criu_opts` with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    ImagesDirFd = 1,
    Pid = 2,
    LeaveRunning = 3,
    ExtUnixSk = 4,
    TcpEstablished = 5,
    EvasiveDevices = 6,
    ShellJob = 7,
    FileLocks = 8,
    LogLevel = 9,
    LogFile = 10,
    NotifyScripts = 12,
    Root = 13,
    ParentImg = 14,
    TrackMem = 15,
    AutoDedup = 16,
    WorkDirFd = 17,
    LinkRemap = 18,
    ManageCgroups = 24,
    RstSibling = 26,
    ManageCgroupsMode = 34,
    EmptyNs = 38,
    FreezeCgroup = 44,
    TcpSkipInFlight = 46,
    LazyPages = 48,
    OrphanPtsMaster = 50,
    ConfigFile = 51,
    TcpClose = 52,
    LsmProfile = 53,
    LsmMountContext = 64,
}

/// Fields of `criu_opts` that hold messages, and may stand several times.
const PAGE_SERVER: u32 = 11;
const EXT_MNT: u32 = 23;
const CG_ROOT: u32 = 25;
const INHERIT_FD: u32 = 27;
const EXTERNAL: u32 = 37;
const JOIN_NS: u32 = 39;

/// What a request asks for in detail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options(Message);

impl Options {
    /// Sets a number.
    pub(crate) fn number(&mut self, field: Field, value: i32) -> &mut Self {
        // Negative ones are sign-extended, as the format has them.
        self.0.number(field as u32, i64::from(value) as u64);
        self
    }

    /// Switches something on, if it is to be.
    pub(crate) fn switch(&mut self, field: Field, on: bool) -> &mut Self {
        if on {
            self.0.number(field as u32, 1);
        }
        self
    }

    /// Sets a text.
    pub(crate) fn text(&mut self, field: Field, value: &[u8]) -> &mut Self {
        self.0.bytes(field as u32, value);
        self
    }

    /// When dumping, the mount at the path `key` comes from outside and is called `value`; when restoring, what is called
    /// `key` is the host's path `value`.
    pub(crate) fn external_mount(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        self.0.message(EXT_MNT, Message::default().bytes(1, key).bytes(2, value));
        self
    }

    /// Something from outside that is not to be dumped.
    pub(crate) fn external(&mut self, what: &str) -> &mut Self {
        self.0.bytes(EXTERNAL, what.as_bytes());
        self
    }

    /// What is called `key` is the descriptor `number` of criu's own.
    pub(crate) fn inherit(&mut self, key: &str, number: usize) -> &mut Self {
        self.0.message(INHERIT_FD, Message::default().bytes(1, key.as_bytes()).number(2, number as u64));
        self
    }

    /// The namespace behind `path` is joined.
    pub(crate) fn join(&mut self, kind: &str, path: &[u8]) -> &mut Self {
        self.0.message(JOIN_NS, Message::default().bytes(1, kind.as_bytes()).bytes(2, path));
        self
    }

    /// Groups of the hierarchy of `controller` (v2: none) are restored below `path`.
    pub(crate) fn cgroup_root(&mut self, controller: &str, path: &str) -> &mut Self {
        self.0.message(CG_ROOT, Message::default().bytes(1, controller.as_bytes()).bytes(2, path.as_bytes()));
        self
    }

    /// Memory goes to a server.
    pub(crate) fn page_server(&mut self, address: &str, port: u16) -> &mut Self {
        self.0
            .message(PAGE_SERVER, Message::default().bytes(1, address.as_bytes()).number(2, u64::from(port)));
        self
    }
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(super) kind: Kind,
    pub(super) message: Message,
}

impl Request {
    /// One with options.
    pub(crate) fn new(kind: Kind, options: &Options) -> Self {
        let mut request = Self::bare(kind);
        request.message.message(2, &options.0);
        request
    }

    /// Which criu it is.
    pub(crate) fn version() -> Self {
        Self::bare(Kind::Version)
    }

    /// Whether memory can be tracked, and filled in later.
    pub(crate) fn features() -> Self {
        let mut request = Self::bare(Kind::FeatureCheck);
        request.message.message(5, Message::default().number(1, 1).number(2, 1));
        request
    }

    /// The answer to a notice.
    pub(super) fn noticed(success: bool) -> Self {
        let mut request = Self::bare(Kind::Notify);
        request.message.number(3, u64::from(success));
        request
    }

    fn bare(kind: Kind) -> Self {
        let mut message = Message::default();
        message.number(1, kind as u64);
        Self { kind, message }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Value, fields};
    use super::*;

    #[test]
    fn options_stand_under_the_numbers_of_criu() {
        let mut options = Options::default();
        options.number(Field::Pid, 77).switch(Field::ShellJob, true).switch(Field::FileLocks, false);
        options.external_mount(b"/data", b"/data").cgroup_root("", "/box").cgroup_root("pids", "/box");
        let request = Request::new(Kind::Dump, &options);
        let all = fields(request.message.as_bytes()).unwrap();
        let [(1, Value::Number(1)), (2, Value::Bytes(inner))] = all[..] else { panic!("{all:?}") };
        let inner = fields(inner).unwrap();
        let (mount, global, pids) =
            (b"\x0a\x05/data\x12\x05/data", b"\x0a\0\x12\x04/box", b"\x0a\x04pids\x12\x04/box");
        let wanted = [
            (2, Value::Number(77)),
            (7, Value::Number(1)),
            (23, Value::Bytes(mount)),
            (25, Value::Bytes(global)),
            (25, Value::Bytes(pids)),
        ];
        assert_eq!(inner, wanted);
    }
}
