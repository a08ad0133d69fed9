//! A listener that stays while the gateway behind it is replaced, as one does that a supervisor holds:
//! whoever comes meanwhile waits for the successor.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::Shared;

/// For what a client does by itself, be it after half a minute, on a busy host.
const PATIENCE: Duration = Duration::from_secs(90);

/// One connection through it.
#[derive(Clone, Debug)]
pub struct Visit {
    pub came: Instant,
    /// The target of its last request: a browser may ask for a page by it, and then for a stream.
    path: String,
    /// What the gateway has said.
    pub got: String,
    /// When it had no more to say; the client is told then.
    pub ended: Option<Instant>,
}

#[derive(Debug, Default)]
struct House {
    /// The gateway's port, while there is one.
    gateway: Option<u16>,
    visits: Vec<Visit>,
    is_over: bool,
}

pub struct Door {
    port: u16,
    listener: Arc<TcpListener>,
    house: Arc<Shared<House>>,
}

impl Door {
    /// Nobody is let in yet.
    pub fn new() -> Door {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let door = Door {
            port: listener.local_addr().expect("an address").port(),
            listener: Arc::new(listener),
            house: Arc::default(),
        };
        let (listener, house) = (Arc::clone(&door.listener), Arc::clone(&door.house));
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let house = Arc::clone(&house);
                thread::spawn(move || carry(&house, near));
            }
        });
        door
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The way to the gateway at this port is open.
    pub fn open(&self, gateway: u16) {
        self.house.change(|house| house.gateway = Some(gateway));
    }

    /// Whoever comes from now on waits.
    pub fn close(&self) {
        self.house.change(|house| house.gateway = None);
    }

    /// Waits until something is so of the visit with this number, of those who ask for this path.
    #[track_caller]
    pub fn wait_visit(&self, path: &str, number: usize, is_so: impl Fn(&Visit) -> bool) -> Visit {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.house.wait(|house| {
                let mut visits = house.visits.iter().filter(|visit| visit.path == path);
                visits.nth(number).filter(|visit| is_so(visit)).cloned()
            });
            if let Some(found) = found {
                return found;
            }
            let visits = self.house.look(|house| format!("{:#?}", house.visits));
            assert!(Instant::now() < end, "{path} {number}: {visits}");
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.house.change(|house| house.is_over = true);
        // It fails only if it is closed already.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
    }
}

fn carry(house: &Arc<Shared<House>>, near: TcpStream) {
    let at = house.change(|house| {
        house.visits.push(Visit {
            came: Instant::now(),
            path: String::new(),
            got: String::new(),
            ended: None,
        });
        house.visits.len() - 1
    });
    // A client may wait longer than a test does for one thing.
    let gateway = loop {
        let found = house.wait(|house| house.gateway.map(Some).or(house.is_over.then_some(None)));
        if let Some(found) = found {
            break found;
        }
    };
    let Some(far) = gateway.and_then(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
    else {
        return;
    };
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("an option");
    }
    let (near, far) = (Arc::new(near), Arc::new(far));
    let upwards = (Arc::clone(house), Arc::clone(&near), Arc::clone(&far));
    thread::spawn(move || carry_up(&upwards.0, at, &upwards.1, &upwards.2));
    let mut room = [0; 4096];
    while let Ok(n @ 1..) = (&*far).read(&mut room) {
        let text = String::from_utf8_lossy(&room[..n]);
        house.change(|house| house.visits[at].got += &text);
        if (&*near).write_all(&room[..n]).is_err() {
            break;
        }
    }
    house.change(|house| house.visits[at].ended = Some(Instant::now()));
    // These fail only if the other side has ended it.
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

fn carry_up(house: &Shared<House>, at: usize, mut near: &TcpStream, mut far: &TcpStream) {
    let mut room = [0; 4096];
    while let Ok(n @ 1..) = near.read(&mut room) {
        // Clients write their heads at once.
        let text = String::from_utf8_lossy(&room[..n]);
        if let Some((path, _)) = text.strip_prefix("GET ").and_then(|it| it.split_once(' ')) {
            house.change(|house| house.visits[at].path = path.to_owned());
        }
        if far.write_all(&room[..n]).is_err() {
            break;
        }
    }
    let _ = far.shutdown(Shutdown::Both);
}
