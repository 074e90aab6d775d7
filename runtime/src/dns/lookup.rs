//! The addresses behind a name, asked of the host's resolvers as resolv.conf(5) has it: its search list, `ndots`, and
//! one server after the other. The C library's own resolver would block the supervisor's one thread.

use std::net::IpAddr;

use super::ResolvConf;
use super::forward::{Forwarder, Upstream};
use super::message::{Name, Rcode, TYPE_A, TYPE_AAAA};
use super::{read, write};

/// Most names that are made of one by the search list.
const MOST_NAMES: usize = 8;

/// Why a name has no address, in the words of Go's resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// Nobody has that name.
    #[error("no such host")]
    NoSuchHost,
    /// A server says that it failed.
    #[error("server misbehaving")]
    Misbehaving,
    /// No server answers.
    #[error("i/o timeout")]
    Silence,
}

/// Asks for the addresses of `host`, IPv4 first.
///
/// # Errors
/// There is none.
pub async fn look_up(host: &str, conf: &ResolvConf, upstream: Upstream) -> Result<Vec<IpAddr>, NotFound> {
    let Ok(forwarder) = Forwarder::new(upstream) else { return Err(NotFound::Silence) };
    tokio::select! {
        found = first_of(&forwarder, candidates(host, conf)) => found,
        () = forwarder.receive() => Err(NotFound::Silence),
    }
}

async fn first_of(forwarder: &Forwarder, names: Vec<Name>) -> Result<Vec<IpAddr>, NotFound> {
    let mut worst = NotFound::NoSuchHost;
    for name in names {
        let (four, six) = tokio::join!(ask(forwarder, &name, TYPE_A), ask(forwarder, &name, TYPE_AAAA));
        match (four, six) {
            (Err(NotFound::Silence), Err(NotFound::Silence)) => return Err(NotFound::Silence),
            (Err(one), Err(_)) => worst = if one == NotFound::NoSuchHost { worst } else { one },
            (four, six) => {
                let found = [four.unwrap_or_default(), six.unwrap_or_default()].concat();
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
    }
    Err(worst)
}

/// The addresses of one kind; none for a name that has none of it.
async fn ask(forwarder: &Forwarder, name: &Name, kind: u16) -> Result<Vec<IpAddr>, NotFound> {
    // The forwarder chooses the id.
    let reply = forwarder.resolve_whole(&write::question(0, name, kind)).await.ok_or(NotFound::Silence)?;
    match read::addresses(&reply) {
        Some(found) if found.rcode == Rcode::Success => Ok(found.addresses),
        Some(found) if found.rcode == Rcode::NoSuchName => Err(NotFound::NoSuchHost),
        Some(_) | None => Err(NotFound::Misbehaving),
    }
}

/// What a name may stand for, in the order in which it is tried.
fn candidates(host: &str, conf: &ResolvConf) -> Vec<Name> {
    if host.ends_with('.') {
        return Name::new(host).into_iter().collect();
    }
    let ndots = conf.options.iter().rev().find_map(|option| option.strip_prefix("ndots:")?.parse().ok());
    let searched = conf.searches.iter().map(|suffix| format!("{host}.{}", suffix.trim_start_matches('.')));
    let mut names: Vec<String> = searched.take(MOST_NAMES - 1).collect();
    let as_it_is = if host.matches('.').count() >= ndots.unwrap_or(1) { 0 } else { names.len() };
    names.insert(as_it_is, host.to_owned());
    names.iter().filter_map(|name| Name::new(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Packet, RCODE, ResourceRecord, TYPE};
    use tokio::net::UdpSocket;

    fn tried(host: &str, conf: &str) -> Vec<String> {
        let names = candidates(host, &ResolvConf::parse(conf));
        names.iter().map(|name| name.labels().join(".")).collect()
    }

    #[test]
    fn a_short_name_is_searched_for_and_a_long_one_taken_as_it_is_first() {
        let conf = "search a.example b.example\n";
        assert_eq!(tried("db", conf), ["db.a.example", "db.b.example", "db"]);
        assert_eq!(tried("db.x", conf), ["db.x", "db.x.a.example", "db.x.b.example"]);
        assert_eq!(
            tried("db.x", &format!("{conf}options ndots:2\n")),
            ["db.x.a.example", "db.x.b.example", "db.x"]
        );
        assert_eq!(tried("db.", conf), ["db"]);
        assert!(tried("a..b", "").is_empty());
    }

    /// Answers for ever: `db.example` has addresses, `bad.example` a failing server, all others are unknown.
    async fn serve(socket: &UdpSocket) -> std::io::Error {
        let mut buffer = [0; 600];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => return error,
            };
            let mut reply = Packet::parse(&buffer[..length]).unwrap().into_reply();
            let question = reply.questions[0].clone();
            let data = match (question.qname.to_string().as_str(), question.qtype) {
                ("db.example", kind) if kind == TYPE::A.into() => {
                    Some(RData::A(std::net::Ipv4Addr::new(192, 0, 2, 7).into()))
                }
                ("db.example", _) => Some(RData::AAAA(std::net::Ipv6Addr::LOCALHOST.into())),
                ("bad.example", _) => {
                    *reply.rcode_mut() = RCODE::ServerFailure;
                    None
                }
                _ => {
                    *reply.rcode_mut() = RCODE::NameError;
                    None
                }
            };
            reply.answers.extend(data.map(|data| ResourceRecord::new(question.qname, CLASS::IN, 60, data)));
            socket.send_to(&reply.build_bytes_vec().unwrap(), from).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_name_has_the_addresses_that_the_host_s_resolver_knows() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let found = async |host: &str| {
            let servers = vec![server.local_addr().unwrap()];
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let upstream = Upstream { servers, v4: Some(socket), ..Upstream::default() };
            let conf = ResolvConf::parse("search example\n");
            tokio::select! {
                found = look_up(host, &conf, upstream) => found,
                error = serve(&server) => panic!("{error}"),
            }
        };
        assert_eq!(found("db").await, Ok(vec!["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()]));
        assert_eq!(found("nobody").await, Err(NotFound::NoSuchHost));
        assert_eq!(found("bad").await, Err(NotFound::Misbehaving));
    }
}
