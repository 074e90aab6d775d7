//! The resolver's answers, read by a parser that is not ours, and the resolver itself on loopback sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::manifest::pod::Protocol;

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort { name: (!name.is_empty()).then(|| name.to_owned()), protocol: Protocol::Tcp, port }
}

fn service(name: &str, address: [u8; 4]) -> ServiceRecord {
    ServiceRecord {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        cluster_ip: Some(address.into()),
        ports: vec![port("http", 80), port("", 81)],
        ..ServiceRecord::default()
    }
}

fn headless(name: &str, endpoints: Vec<Endpoint>) -> ServiceRecord {
    ServiceRecord { cluster_ip: None, headless: true, endpoints, ..service(name, [0; 4]) }
}

fn alias(name: &str, target: &str) -> ServiceRecord {
    ServiceRecord { cluster_ip: None, external_name: Some(target.to_owned()), ..service(name, [0; 4]) }
}

fn zone() -> Zone {
    let endpoint = |last, hostname: Option<&str>| Endpoint {
        ip: [10, 87, 0, last].into(),
        hostname: hostname.map(str::to_owned),
        ports: vec![port("http", 8080)],
    };
    let many = (1..=100).map(|last| endpoint(last, None)).collect();
    Zone::from_services(
        "cluster.local",
        vec![
            service("mysvc", [10, 96, 3, 4]),
            headless("db", vec![endpoint(200, Some("first")), endpoint(201, None)]),
            headless("nobody", vec![]),
            headless("many", many),
            alias("inside", "mysvc.default.svc.cluster.local"),
            alias("outside", "www.example.com."),
            alias("round", "round.default.svc.cluster.local"),
        ],
    )
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = simple_dns::Name::new_unchecked(name);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), CLASS::IN.into(), false));
    packet.build_bytes_vec().unwrap()
}

fn ask_by(name: &str, kind: TYPE, transport: Transport) -> Vec<u8> {
    match answer(&zone(), &query(name, kind), transport) {
        Answer::Local(reply) => reply,
        other => panic!("{name}: {other:?}"),
    }
}

fn ask(name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
    let reply = ask_by(name, kind, Transport::Tcp);
    let packet = Packet::parse(&reply).unwrap();
    assert_eq!(packet.id(), 0x1234);
    assert_eq!(packet.questions[0].qname.to_string(), name);
    assert!(
        packet.has_flags(
            PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED
        )
    );
    if packet.answers.is_empty() {
        let authority = &packet.name_servers[0];
        assert_eq!(authority.name.to_string(), "cluster.local");
        assert!(matches!(authority.rdata, RData::SOA(_)) && (5..=30).contains(&authority.ttl));
    }
    (packet.rcode(), packet.answers.iter().map(show).collect())
}

fn show(record: &simple_dns::ResourceRecord<'_>) -> String {
    match &record.rdata {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::CNAME(name) => format!("-> {}", name.0),
        RData::PTR(name) => name.0.to_string(),
        RData::SRV(srv) => format!("{}:{}", srv.target, srv.port),
        RData::TXT(text) => text.attributes().into_keys().collect(),
        RData::SOA(soa) => soa.mname.to_string(),
        other => format!("{other:?}"),
    }
}

fn found(texts: &[&str]) -> (RCODE, Vec<String>) {
    (RCODE::NoError, texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn a_service_has_its_address_whatever_the_case() {
    assert_eq!(ask("mysvc.default.svc.cluster.local", TYPE::A), found(&["10.96.3.4"]));
    assert_eq!(ask("MySvc.Default.SVC.cluster.LOCAL", TYPE::A), found(&["10.96.3.4"]));
}

#[test]
fn a_name_without_the_type_has_no_data_and_an_unknown_one_does_not_exist() {
    for name in ["mysvc.default.svc.cluster.local", "default.svc.cluster.local", "svc.cluster.local"] {
        assert_eq!(ask(name, TYPE::AAAA), found(&[]));
    }
    let missing = (RCODE::NameError, vec![]);
    for name in [
        "mydb.default.svc.cluster.local",
        "mysvc.other.svc.cluster.local",
        "other.svc.cluster.local",
        "example.com.cluster.local",
        "nobody.default.svc.cluster.local",
        "999-1-2-3.default.pod.cluster.local",
    ] {
        assert_eq!(ask(name, TYPE::A), missing, "{name}");
    }
}

#[test]
fn a_headless_service_has_its_endpoints() {
    assert_eq!(ask("db.default.svc.cluster.local", TYPE::A), found(&["10.87.0.200", "10.87.0.201"]));
    assert_eq!(ask("first.db.default.svc.cluster.local", TYPE::A), found(&["10.87.0.200"]));
    assert_eq!(ask("10-87-0-201.db.default.svc.cluster.local", TYPE::A), found(&["10.87.0.201"]));
}

#[test]
fn named_ports_have_srv_records_and_others_have_not() {
    let at = "mysvc.default.svc.cluster.local:80";
    assert_eq!(ask("_http._tcp.mysvc.default.svc.cluster.local", TYPE::SRV), found(&[at]));
    let reply = ask_by("_http._tcp.mysvc.default.svc.cluster.local", TYPE::SRV, Transport::Udp);
    assert_eq!(show(&Packet::parse(&reply).unwrap().additional_records[0]), "10.96.3.4");
    assert_eq!(ask("_http._udp.mysvc.default.svc.cluster.local", TYPE::SRV).0, RCODE::NameError);
    assert_eq!(
        ask("_http._tcp.db.default.svc.cluster.local", TYPE::SRV),
        found(&["first.db.default.svc.cluster.local:8080", "10-87-0-201.db.default.svc.cluster.local:8080"])
    );
    assert_eq!(ask("_tcp.mysvc.default.svc.cluster.local", TYPE::SRV), found(&[]));
}

#[test]
fn addresses_lead_back_to_names_and_foreign_ones_are_asked_for() {
    assert_eq!(ask("4.3.96.10.in-addr.arpa", TYPE::PTR), found(&["mysvc.default.svc.cluster.local"]));
    assert_eq!(ask("200.0.87.10.in-addr.arpa", TYPE::PTR), found(&["first.db.default.svc.cluster.local"]));
    assert_eq!(answer(&zone(), &query("1.2.0.192.in-addr.arpa", TYPE::PTR), Transport::Udp), Answer::Forward);
}

#[test]
fn pods_have_names_and_the_domain_tells_its_version() {
    assert_eq!(ask("10-87-0-5.default.pod.cluster.local", TYPE::A), found(&["10.87.0.5"]));
    assert_eq!(ask("dns-version.cluster.local", TYPE::TXT), found(&["1.1.0"]));
    assert_eq!(ask("cluster.local", TYPE::SOA), found(&["ns.dns.cluster.local"]));
}

#[test]
fn an_alias_is_followed_inside_the_domain() {
    let both = found(&["-> mysvc.default.svc.cluster.local", "10.96.3.4"]);
    assert_eq!(ask("inside.default.svc.cluster.local", TYPE::A), both);
    assert_eq!(ask("outside.default.svc.cluster.local", TYPE::CNAME), found(&["-> www.example.com"]));
    // An alias of itself ends somewhere.
    assert_eq!(ask("round.default.svc.cluster.local", TYPE::A).0, RCODE::NoError);
}

#[test]
fn an_alias_that_leads_outside_is_asked_for_there() {
    let asked = query("Outside.default.svc.cluster.local", TYPE::A);
    let Answer::Follow(follow) = answer(&zone(), &asked, Transport::Udp) else { panic!("not followed") };
    let upstream = Packet::parse(&follow.query).unwrap();
    assert_eq!(upstream.questions[0].qname.to_string(), "www.example.com");
    let mut reply = upstream.into_reply();
    let name = simple_dns::Name::new_unchecked("www.example.com");
    let a = RData::A(Ipv4Addr::new(192, 0, 2, 7).into());
    reply.answers.push(simple_dns::ResourceRecord::new(name, CLASS::IN, 60, a));
    let whole = follow.finish(&asked, Some(&reply.build_bytes_vec_compressed().unwrap()));
    let whole = Packet::parse(&whole).unwrap();
    assert_eq!(whole.questions[0].qname.to_string(), "Outside.default.svc.cluster.local");
    let shown: Vec<_> =
        whole.answers.iter().map(|record| format!("{} {}", record.name, show(record))).collect();
    assert_eq!(shown, ["Outside.default.svc.cluster.local -> www.example.com", "www.example.com 192.0.2.7"]);
    let alone = follow.finish(&asked, None);
    assert_eq!(Packet::parse(&alone).unwrap().rcode(), RCODE::ServerFailure);
}

#[test]
fn a_reply_that_is_too_long_for_udp_says_so() {
    let name = "many.default.svc.cluster.local";
    let cut = ask_by(name, TYPE::A, Transport::Udp);
    let packet = Packet::parse(&cut).unwrap();
    assert!(cut.len() <= 512 && packet.has_flags(PacketFlag::TRUNCATION) && packet.answers.is_empty());
    assert_eq!(ask(name, TYPE::A).1.len(), 100);
}

/// An OPT record of 4096 bytes with the "DNSSEC OK" flag. (By hand: the parser of these tests, 0.13, has
/// version and verdict of an OPT record in the wrong bytes.)
fn opt(version: u8) -> [u8; 11] {
    [0, 0, 41, 16, 0, 0, version, 0x80, 0, 0, 0]
}

#[test]
fn edns_is_answered_with_edns() {
    let reply_with = |version| {
        let mut packet = query("mysvc.default.svc.cluster.local", TYPE::A);
        packet[11] = 1;
        packet.extend_from_slice(&opt(version));
        match answer(&zone(), &packet, Transport::Udp) {
            Answer::Local(reply) => reply,
            other => panic!("{other:?}"),
        }
    };
    let good = reply_with(0);
    assert!(good.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]));
    assert_eq!(addresses_in(&good), [IpAddr::from([10, 96, 3, 4])]);
    // BADVERS, 16: none of it in the header, all of it in the OPT record.
    let bad = reply_with(1);
    assert_eq!(bad[3] & 0xf, 0);
    assert!(bad.ends_with(&[0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]));
}

#[test]
fn what_is_no_query_of_ours_is_refused_or_ignored() {
    let rcode = |packet: &[u8]| match answer(&zone(), packet, Transport::Udp) {
        Answer::Local(reply) => Some(Packet::parse(&reply).unwrap().rcode()),
        _ => None,
    };
    let good = query("mysvc.default.svc.cluster.local", TYPE::A);
    assert_eq!(rcode(&good[..11]), None);
    assert_eq!(rcode(&good[..20]), Some(RCODE::FormatError));
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    assert_eq!(rcode(&with(2, 0x80)), None);
    assert_eq!(rcode(&with(2, 0x28)), Some(RCODE::NotImplemented));
    assert_eq!(rcode(&with(5, 2)), Some(RCODE::FormatError));
    assert_eq!(rcode(&with(good.len() - 1, 3)), Some(RCODE::Refused));
    assert_eq!(rcode(&with(good.len() - 3, 252)), Some(RCODE::Refused));
    // A type that nobody knows is still a question.
    let Answer::Local(reply) = answer(&zone(), &with(good.len() - 4, 0xff), Transport::Udp) else {
        panic!("no reply")
    };
    assert_eq!((reply[3] & 0xf, addresses_in(&reply)), (0, vec![]));
    let unknown = query("example.com", TYPE::Unknown(0xff01));
    assert_eq!(answer(&zone(), &unknown, Transport::Udp), Answer::Forward);
}

proptest! {
    #[test]
    fn no_packet_breaks_the_resolver(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(answer(&zone(), &packet, Transport::Udp));
        drop(read::addresses(&packet));
        drop(read::id_and_question(&packet));
        read::reply_is_failure(&packet);
        read::is_truncated(&packet);
    }

    #[test]
    fn no_damage_to_a_good_packet_breaks_the_resolver(at in 0_usize..200, byte: u8, cut in 0_usize..80) {
        let mut packet = query("_http._tcp.mysvc.default.svc.cluster.local", TYPE::SRV);
        packet.extend_from_slice(&opt(0));
        packet[11] = 1;
        let length = packet.len();
        packet[at % length] = byte;
        packet.truncate(length - cut.min(length));
        if let Answer::Local(reply) = answer(&zone(), &packet, Transport::Udp) {
            prop_assert!(reply.len() <= 1232 && reply[..2] == packet[..2]);
        }
        drop(read::addresses(&packet));
    }

    #[test]
    fn a_name_is_read_as_it_was_written(text in "[a-zA-Z0-9_.-]{0,80}") {
        if let Some(name) = Name::new(&text) {
            prop_assert_eq!(name.labels().join("."), text.trim_end_matches('.').to_ascii_lowercase());
        }
    }
}

/// Runs the resolver on loopback, with an upstream that answers with `last` as the address's last byte, and
/// `test`.
fn with_resolver<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr, UdpSocket) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = vec![upstream.local_addr().unwrap()];
        let host_socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = listeners.local_addr().unwrap();
        let (_keep, zone) = watch::channel(Arc::new(zone()));
        let (streams, wanted) = mpsc::channel(4);
        let upstreams =
            Upstream { servers, v4: Some(host_socket), streams: Some(streams), ..Upstream::default() };
        tokio::select! {
            ended = listeners.serve(zone, upstreams) => panic!("{ended:?}"),
            () = make_streams(wanted) => panic!("nobody wants a socket"),
            () = test(at, upstream) => {}
        }
    });
}

async fn make_streams(mut wanted: mpsc::Receiver<StreamWanted>) {
    use rustix::net::{AddressFamily, SocketType, socket};
    while let Some(wanted) = wanted.recv().await {
        assert!(!wanted.v6);
        wanted.socket.send(socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()).unwrap();
    }
}

fn reply_to(packet: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let mut reply = Packet::parse(packet).unwrap().into_reply();
    let name = reply.questions[0].qname.clone();
    reply.answers.push(simple_dns::ResourceRecord::new(name, CLASS::IN, 60, RData::A(address.into())));
    reply.build_bytes_vec().unwrap()
}

fn addresses_in(reply: &[u8]) -> Vec<IpAddr> {
    read::addresses(reply).unwrap().addresses
}

#[test]
fn foreign_names_go_upstream_and_only_the_right_reply_comes_back() {
    with_resolver(|at, upstream| async move {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let asked = query("Example.com", TYPE::A);
        client.send_to(&asked, at).await.unwrap();
        let mut buffer = [0; 600];
        let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
        assert_eq!(buffer[2..length], asked[2..]);
        // A stranger's guess, a wrong id, another question: none of them is taken.
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(&reply_to(&buffer[..length], [6, 6, 6, 6].into()), from).await.unwrap();
        let mut wrong_id = reply_to(&buffer[..length], [6, 6, 6, 7].into());
        wrong_id[0] ^= 0x55;
        upstream.send_to(&wrong_id, from).await.unwrap();
        let mut other = query("example.org", TYPE::A);
        other[..2].copy_from_slice(&buffer[..2]);
        upstream.send_to(&reply_to(&other, [6, 6, 6, 8].into()), from).await.unwrap();
        upstream.send_to(&reply_to(&buffer[..length], [192, 0, 2, 1].into()), from).await.unwrap();
        let (length, _) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!(buffer[..2], asked[..2]);
        assert_eq!(addresses_in(&buffer[..length]), [IpAddr::from([192, 0, 2, 1])]);
    });
}

#[test]
fn a_client_by_tcp_gets_long_replies_and_many() {
    with_resolver(|at, upstream| async move {
        let mut client = crate::probe::tcp::dial(at).await.unwrap();
        for (name, count) in
            [("many.default.svc.cluster.local", 100), ("outside.default.svc.cluster.local", 1)]
        {
            let asked = query(name, TYPE::A);
            let framed = [&u16::try_from(asked.len()).unwrap().to_be_bytes()[..], &asked].concat();
            client.write_all(&framed).await.unwrap();
            if count == 1 {
                let mut buffer = [0; 600];
                let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
                upstream.send_to(&reply_to(&buffer[..length], [192, 0, 2, 1].into()), from).await.unwrap();
            }
            let mut reply = vec![0; usize::from(client.read_u16().await.unwrap())];
            client.read_exact(&mut reply).await.unwrap();
            assert_eq!(addresses_in(&reply).len(), count);
        }
    });
}

/// Answers one query by datagram with "truncated", and then one by TCP with 200 addresses.
async fn answer_at_length(upstream: UdpSocket, datagram_first: bool) {
    let listener = TcpListener::bind(upstream.local_addr().unwrap()).await.unwrap();
    let mut buffer = [0; 600];
    if datagram_first {
        let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
        let mut short = Packet::parse(&buffer[..length]).unwrap().into_reply();
        short.set_flags(PacketFlag::TRUNCATION);
        upstream.send_to(&short.build_bytes_vec().unwrap(), from).await.unwrap();
    }
    let (mut stream, _) = listener.accept().await.unwrap();
    let asked = stream::receive(&mut stream).await.unwrap();
    let mut reply = Packet::parse(&asked).unwrap().into_reply();
    for last in 0..200 {
        let name = reply.questions[0].qname.clone();
        let address = RData::A(Ipv4Addr::new(192, 0, 2, last).into());
        reply.answers.push(simple_dns::ResourceRecord::new(name, CLASS::IN, 60, address));
    }
    stream::send(&mut stream, &reply.build_bytes_vec_compressed().unwrap()).await.unwrap();
}

#[test]
fn long_replies_come_from_upstream_by_tcp() {
    // A client by TCP is asked for by TCP at once, the target of an alias when a datagram was too small.
    for (name, datagram_first) in [("example.com", false), ("outside.default.svc.cluster.local", true)] {
        with_resolver(|at, upstream| async move {
            let upstream = tokio::spawn(answer_at_length(upstream, datagram_first));
            let mut client = crate::probe::tcp::dial(at).await.unwrap();
            stream::send(&mut client, &query(name, TYPE::A)).await.unwrap();
            let reply = stream::receive(&mut client).await.unwrap();
            assert_eq!((addresses_in(&reply).len(), reply[..2].to_vec()), (200, vec![0x12, 0x34]));
            upstream.await.unwrap();
        });
    }
}

#[test]
fn a_silent_upstream_ends_in_server_failure() {
    with_resolver(|at, _silent| async move {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(&query("example.com", TYPE::A), at).await.unwrap();
        let mut buffer = [0; 600];
        let (length, _) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!(Packet::parse(&buffer[..length]).unwrap().rcode(), RCODE::ServerFailure);
    });
}

#[test]
fn queries_beyond_the_bound_fail_at_once() {
    with_resolver(|at, _silent| async move {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..129 {
            client.send_to(&query("example.com", TYPE::A), at).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut buffer = [0; 600];
        let answer = tokio::time::timeout(std::time::Duration::from_secs(1), client.recv_from(&mut buffer));
        let (length, _) = answer.await.expect("well before any time limit").unwrap();
        assert_eq!(Packet::parse(&buffer[..length]).unwrap().rcode(), RCODE::ServerFailure);
    });
}
