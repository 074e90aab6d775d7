//! The network tasks against the kernel. Each test plays the host in a network namespace of its own: its
//! thread moves into a new one, and pods are further ones.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hull_shim::layout::Layout;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::rtnetlink::{Link, LinkAddress, Rtnetlink, Veth};
use super::*;
use crate::dns;

const PATIENCE: Duration = Duration::from_secs(5);

/// Moves the calling thread into a new network namespace.
#[expect(deprecated, reason = "its danger is shared descriptor tables; a network namespace touches none")]
fn leave() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
}

/// Runs `test` on a thread in a new network namespace.
fn as_host(test: impl FnOnce(&Host) + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make network namespaces");
        return;
    }
    thread::scope(|scope| {
        let run = || {
            leave().unwrap();
            let root = tempfile::tempdir().unwrap();
            let layout = Layout::new(Some(root.path().to_owned()));
            test(&Host { _root: root, layout });
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

struct Host {
    _root: tempfile::TempDir,
    layout: Layout,
}

impl Host {
    fn up(&self, uid: &str, netns: &OwnedFd) -> Result<Up, Error> {
        self.up_with(uid, netns, Config::default())
    }

    fn up_with(&self, uid: &str, netns: &OwnedFd, config: Config) -> Result<Up, Error> {
        fs::create_dir_all(self.layout.pod(uid).dir()).unwrap();
        up(&self.layout, &input(uid, config), netns.try_clone().unwrap())
    }

    fn down(&self, uid: &str) {
        down(&self.layout, &input(uid, Config::default())).unwrap();
        // A second time there is nothing to do.
        down(&self.layout, &input(uid, Config::default())).unwrap();
    }

    fn leases(&self) -> usize {
        fs::read_dir(self.layout.network().join("pods/addresses")).map_or(0, Iterator::count)
            + fs::read_dir(self.layout.network().join("pods/owners")).map_or(0, Iterator::count)
    }
}

fn input(uid: &str, config: Config) -> Input {
    Input { uid: uid.to_owned(), config }
}

fn config(json: &str) -> Config {
    serde_json::from_str(json).unwrap()
}

/// What of a namespace a leftover would be seen in.
fn view() -> (Vec<Link>, Vec<LinkAddress>, bool) {
    let mut here = Rtnetlink::open().unwrap();
    (here.links().unwrap(), here.addresses().unwrap(), nft::has_table().unwrap())
}

fn new_netns() -> OwnedFd {
    let make = || {
        leave().unwrap();
        OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
    };
    thread::spawn(make).join().unwrap()
}

fn inside<T: Send>(netns: &OwnedFd, act: impl FnOnce() -> T + Send) -> T {
    let enter_and_act = || {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        act()
    };
    thread::scope(|scope| scope.spawn(enter_and_act).join().unwrap())
}

/// Connects to a listener and returns the address that it saw.
fn reach(listener: &TcpListener, from: &OwnedFd) -> IpAddr {
    let to = listener.local_addr().unwrap();
    let mut client = inside(from, || TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    client.write_all(b"hull").unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hull");
    peer.ip()
}

fn listen(netns: &OwnedFd, ip: IpAddr) -> TcpListener {
    inside(netns, || TcpListener::bind(SocketAddr::new(ip, 0))).unwrap()
}

#[test]
fn two_pods_reach_each_other_and_the_host_and_leave_nothing() {
    as_host(|host| {
        let before = view();
        let (a, b) = (new_netns(), new_netns());
        let (up_a, up_b) = (host.up("a", &a).unwrap(), host.up("b", &b).unwrap());
        assert_ne!(up_a.ips, up_b.ips);
        assert!(nft::has_table().unwrap());
        assert_eq!(reach(&listen(&a, up_a.ips[0]), &b), up_b.ips[0]);
        assert_eq!(reach(&listen(&a, up_a.ips[0]), &a), up_a.ips[0]);
        let on_host = TcpListener::bind(SocketAddr::new(up_a.host_ip, 0)).unwrap();
        assert_eq!(reach(&on_host, &b), up_b.ips[0]);
        // The resolver's address is the pod's own; the rest of the service range fails at once.
        assert_eq!(reach(&listen(&b, up_b.dns), &b), up_b.dns);
        let elsewhere = SocketAddr::from(([10, 96, 0, 99], 80));
        inside(&b, || TcpStream::connect_timeout(&elsewhere, PATIENCE)).unwrap_err();
        host.down("a");
        assert_eq!(reach(&on_host, &b), up_b.ips[0]);
        host.down("b");
        assert_eq!((view(), host.leases()), (before, 0));
    });
}

#[test]
fn the_world_sees_the_hosts_address() {
    as_host(|host| {
        let (pod, world) = (new_netns(), new_netns());
        let up = host.up("a", &pod).unwrap();
        let mut here = Rtnetlink::open().unwrap();
        here.add_veth(Veth {
            name: "up0",
            bridge: 0,
            peer_netns: world.as_fd(),
            peer_name: "eth0",
            peer_mac: [2, 0, 0, 0, 0, 1],
        })
        .unwrap();
        let uplink = here.link("up0").unwrap().unwrap().index;
        here.add_address(uplink, Ipv4Addr::new(192, 0, 2, 1), 24).unwrap();
        let mut there = Rtnetlink::open_in(world.as_fd()).unwrap();
        let eth0 = there.link("eth0").unwrap().unwrap().index;
        there.set_up(eth0, None).unwrap();
        there.add_address(eth0, Ipv4Addr::new(192, 0, 2, 2), 24).unwrap();
        let server = listen(&world, IpAddr::from([192, 0, 2, 2]));
        assert_eq!(reach(&server, &pod), IpAddr::from([192, 0, 2, 1]));
        assert_eq!(up.gateway, Some(IpAddr::from([10, 87, 0, 1])));
    });
}

#[test]
fn the_resolver_answers_in_the_pod_and_asks_on_the_host() {
    use std::net::UdpSocket;
    as_host(|host| {
        let pod = new_netns();
        let up = host.up("a", &pod).unwrap();
        // The host's resolver listens on the host's loopback, as systemd's does.
        let mut here = Rtnetlink::open().unwrap();
        let lo = here.link("lo").unwrap().unwrap().index;
        here.set_up(lo, None).unwrap();
        let of_host = UdpSocket::bind("127.0.0.53:53").unwrap();
        let upstream = dns::Upstream {
            servers: vec![of_host.local_addr().unwrap()],
            v4: Some(UdpSocket::bind("0.0.0.0:0").unwrap()),
            ..dns::Upstream::default()
        };
        of_host.set_nonblocking(true).unwrap();
        let at = SocketAddr::new(up.dns, 53);
        inside(&pod, || resolve_in_pod(at, upstream, of_host));
        host.down("a");
    });
}

fn resolve_in_pod(at: SocketAddr, upstream: dns::Upstream, of_host: std::net::UdpSocket) {
    use tokio::net::UdpSocket;
    let service = dns::ServiceRecord {
        name: "mysvc".to_owned(),
        namespace: "default".to_owned(),
        cluster_ip: Some([10, 96, 1, 2].into()),
        ..dns::ServiceRecord::default()
    };
    let (_keep, zone) =
        tokio::sync::watch::channel(Arc::new(dns::Zone::from_services("cluster.local", vec![service])));
    let client = async {
        let client = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        client.connect(at).await.unwrap();
        let mut buffer = [0; 512];
        client.send(&query("mysvc.default.svc.cluster.local")).await.unwrap();
        let length = client.recv(&mut buffer).await.unwrap();
        assert!(buffer[..length].ends_with(&[10, 96, 1, 2]));
        client.send(&query("example.com")).await.unwrap();
        let of_host = UdpSocket::from_std(of_host).unwrap();
        let (length, from) = of_host.recv_from(&mut buffer).await.unwrap();
        buffer[2] |= 0x80;
        of_host.send_to(&buffer[..length], from).await.unwrap();
        assert_eq!(client.recv(&mut buffer).await.unwrap(), length);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listeners = dns::Listeners::bind(at).await.unwrap();
        tokio::select! {
            ended = listeners.serve(zone, upstream) => panic!("{ended:?}"),
            () = client => {}
        }
    });
}

fn query(name: &str) -> Vec<u8> {
    let mut packet = simple_dns::Packet::new_query(7);
    packet.questions.push(simple_dns::Question::new(
        simple_dns::Name::new_unchecked(name),
        simple_dns::TYPE::A.into(),
        simple_dns::CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().unwrap()
}

#[test]
fn a_namespace_is_taken_over_from_a_descriptor_by_number() {
    use std::os::fd::AsRawFd;
    as_host(|host| {
        let pod = new_netns();
        let reopened = task::reopen(pod.as_raw_fd()).unwrap();
        drop(pod);
        host.up("a", &reopened).unwrap();
        host.down("a");
    });
}

#[test]
fn an_address_stays_over_a_new_sandbox() {
    as_host(|host| {
        let (old, new) = (new_netns(), new_netns());
        let before = host.up("a", &old).unwrap();
        let again = host.up("a", &old);
        assert_eq!(again.unwrap(), before);
        assert_eq!(host.up("a", &new).unwrap(), before);
        host.down("a");
    });
}

#[test]
fn down_cleans_after_an_up_cut_off_at_any_step() {
    as_host(|host| {
        let before = view();
        // Each step of `up` in turn is the last one done.
        let leases = || super::lease::Leases::pods(&host.layout).unwrap();
        let pool = super::lease::Pool {
            range: Config::default().pod_cidr(),
            reserved: Config::default().gateway(),
            flag: "--pod-cidr",
        };
        let mut here = Rtnetlink::open().unwrap();
        let steps: [&mut dyn FnMut(); 4] = [
            &mut || drop(leases().claim(pool, "a", |_| true).unwrap()),
            &mut || Rtnetlink::open().unwrap().add_bridge("hull0", [2, 0, 0, 0, 0, 9]).unwrap(),
            &mut || {
                assert!(bridge::ensure(&mut here, &Config::default(), &host.layout.network()).unwrap() > 0)
            },
            &mut || nft::ensure(&Config::default()).unwrap(),
        ];
        let mut done: Vec<&mut dyn FnMut()> = Vec::new();
        for step in steps {
            done.push(step);
            for step in &mut done {
                step();
            }
            fs::create_dir_all(host.layout.pod("a").dir()).unwrap();
            host.down("a");
            assert_eq!((view(), host.leases()), (before.clone(), 0));
        }
    });
}

#[test]
fn a_pod_whose_directory_is_gone_loses_link_and_address_with_the_last_one() {
    as_host(|host| {
        let before = view();
        let (a, b) = (new_netns(), new_netns());
        host.up("a", &a).unwrap();
        host.up("b", &b).unwrap();
        fs::remove_dir_all(host.layout.pod("b").dir()).unwrap();
        host.down("a");
        assert_eq!((view(), host.leases()), (before, 0));
    });
}

#[test]
fn bridges_of_every_name_go_with_the_last_pod() {
    as_host(|host| {
        let before = view();
        let (a, b) = (new_netns(), new_netns());
        let other = config(r#"{"bridge":"hull1","podCidr":"10.86.0.0/24"}"#);
        host.up_with("alone", &a, config(r#"{"mode":"loopback"}"#)).unwrap();
        host.up_with("b", &b, other.clone()).unwrap();
        down(&host.layout, &input("b", other)).unwrap();
        down(&host.layout, &input("alone", config(r#"{"mode":"loopback"}"#))).unwrap();
        assert_eq!((view(), host.leases()), (before, 0));
    });
}

#[test]
fn a_second_hull_on_the_same_bridge_is_told_to_choose_another() {
    as_host(|first| {
        let (a, b) = (new_netns(), new_netns());
        first.up("a", &a).unwrap();
        let root = tempfile::tempdir().unwrap();
        let second = Host { layout: Layout::new(Some(root.path().to_owned())), _root: root };
        let error = second.up("b", &b).unwrap_err();
        assert!(
            matches!(&error, Error::BridgeTaken { .. }) && error.hint().unwrap().contains("--bridge"),
            "{error}"
        );
        second.down("b");
        let (chain, rule) = (nft::chain_of("hull0"), nft::comment(Config::default().pod_cidr()));
        assert!(nft::has_rule(&chain, &rule).unwrap(), "the rules of another hull stay");
        let error = second.up_with("b", &b, config(r#"{"bridge":"hull1"}"#)).unwrap_err();
        assert!(matches!(&error, Error::RangeTaken { link, .. } if link == "hull0"), "{error}");
        second.up_with("b", &b, config(r#"{"bridge":"hull1","podCidr":"10.86.0.0/24"}"#)).unwrap();
        // The table is shared: the first to leave takes its chain alone.
        first.down("a");
        assert!(nft::has_table().unwrap());
        down(&second.layout, &input("b", config(r#"{"bridge":"hull1","podCidr":"10.86.0.0/24"}"#))).unwrap();
        assert!(!nft::has_table().unwrap());
    });
}

#[test]
fn a_bridge_of_a_hull_that_is_gone_is_taken_over() {
    as_host(|host| {
        let gone = tempfile::tempdir().unwrap();
        let mut here = Rtnetlink::open().unwrap();
        bridge::ensure(&mut here, &config(r#"{"podCidr":"10.3.0.0/24"}"#), gone.path()).unwrap();
        drop(gone);
        host.up("a", &new_netns()).unwrap();
        host.down("a");
    });
}

#[test]
fn a_range_is_not_changed_under_living_pods() {
    as_host(|host| {
        host.up("a", &new_netns()).unwrap();
        let other = config(r#"{"podCidr":"10.3.0.0/24"}"#);
        let error = host.up_with("b", &new_netns(), other).unwrap_err();
        assert!(matches!(error, Error::RangeChanged { .. }), "{error}");
    });
}

#[test]
fn without_a_network_a_pod_has_its_address_on_loopback() {
    as_host(|host| {
        let before = view();
        let pod = new_netns();
        let loopback = config(r#"{"mode":"loopback"}"#);
        let up = host.up_with("a", &pod, loopback.clone()).unwrap();
        assert_eq!(view(), before);
        assert_eq!(reach(&listen(&pod, up.ips[0]), &pod), up.ips[0]);
        down(&host.layout, &input("a", loopback)).unwrap();
        assert_eq!((view(), host.leases()), (before, 0));
    });
}

#[test]
fn twenty_pods_come_and_go_at_once() {
    as_host(|host| {
        let before = view();
        let here = OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap());
        let pods: Vec<_> = (0..20).map(|n| (format!("p{n}"), new_netns())).collect();
        let at_once = |act: &(dyn Fn(&str, &OwnedFd) + Sync)| {
            thread::scope(|scope| {
                for (uid, netns) in &pods {
                    scope.spawn(|| inside(&here, || act(uid, netns)));
                }
            });
        };
        at_once(&|uid, netns| drop(host.up(uid, netns).unwrap()));
        assert_eq!(host.leases(), 40);
        at_once(&|uid, _| host.down(uid));
        assert_eq!((view(), host.leases()), (before, 0));
    });
}

/// Not a test of its own: [`a_task_killed_at_any_moment_is_cleaned_up`] runs it as a process, to kill it.
#[test]
fn a_process_that_makes_and_removes_networks() {
    let Ok(root) = std::env::var("HULL_TEST_NETWORK_ROOT") else {
        return;
    };
    let layout = Layout::new(Some(root.into()));
    let pod = new_netns();
    loop {
        up(&layout, &input("a", Config::default()), pod.try_clone().unwrap()).unwrap();
        println!("\nstep");
        down(&layout, &input("a", Config::default())).unwrap();
        println!("\nstep");
    }
}

#[test]
fn a_task_killed_at_any_moment_is_cleaned_up() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    as_host(|host| {
        let before = view();
        fs::create_dir_all(host.layout.pod("a").dir()).unwrap();
        for steps in 1..=12 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "network::tests::a_process_that_makes_and_removes_networks", "--nocapture"])
                .env("HULL_TEST_NETWORK_ROOT", host.layout.root().unwrap())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            assert_eq!(lines.filter(|line| line == "step").take(steps).count(), steps);
            // Now it is somewhere in its next step.
            child.kill().unwrap();
            child.wait().unwrap();
            host.down("a");
            assert_eq!((view(), host.leases()), (before.clone(), 0), "after {steps} steps");
        }
    });
}
