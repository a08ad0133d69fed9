//! A host that has no IPv6 (contract, section 8): all interfaces are then those of IPv4, and
//! `localhost` works. The host is a network namespace of the test's own.
//!
//! Needs the right to make namespaces (root) and `ip` of iproute2, and fails without them:
//!
//! ```text
//! cargo test --test system without_ipv6:: -- --ignored
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

use super::netns::{disable_ipv6, within};
use crate::support::{
    Backend, Client, Gateway, OK, assert_ok, assert_served, open_stream, send_data,
};

#[test]
#[ignore = "needs the right to make network namespaces"]
fn all_interfaces_are_those_of_ipv4() {
    within("without_ipv6::all_interfaces_are_those_of_ipv4", |_| {
        disable_ipv6();
        assert!(TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err());
        let backend = Backend::accepting();
        let gateway = Gateway::of(&backend);
        assert_served(&mut Client::to(
            (Ipv4Addr::LOCALHOST, gateway.port()).into(),
        ));
        let named = TcpStream::connect(("localhost", gateway.port())).expect("localhost");
        assert_served(&mut Client::to(named.peer_addr().expect("an address")));
        let (mut stream, token) = open_stream(&gateway, &backend, "/s");
        assert_ok(&send_data(&gateway, &token, "x"), OK);
        assert_eq!(stream.next_event(), "data: x\n\n");
        drop(stream);
        backend.assert_balanced();
    });
}
