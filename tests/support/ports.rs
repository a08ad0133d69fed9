//! Ports that are free and stay so, although the program that listens is another process.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A port that the kernel gives to nobody else: a socket is bound to it that never listens. Others
/// may bind it by number if they set SO_REUSEADDR, as the gateway does; asking for any free port,
/// or connecting somewhere, never yields it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _socket: Socket,
}

impl Port {
    /// On all interfaces, both families where the host has both.
    pub fn reserve() -> Port {
        Port::of((Ipv6Addr::UNSPECIFIED, 0).into())
            .or_else(|_| Port::of((Ipv4Addr::UNSPECIFIED, 0).into()))
            .expect("a free port")
    }

    /// On the IPv4 loopback interface.
    pub fn reserve_local() -> Port {
        Port::of((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port")
    }

    fn of(address: SocketAddr) -> std::io::Result<Port> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let bound = socket.local_addr()?.as_socket().expect("an IP address");
        Ok(Port {
            number: bound.port(),
            _socket: socket,
        })
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}
