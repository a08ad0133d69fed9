//! A wire between a client and the gateway, which dies in the middle of what it carries.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::support::Shared;

/// What a client sees of a wire that dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// Carries connections to the gateway as long as it is whole; who comes to a dead one is reset.
pub struct Wire {
    port: u16,
    listener: Arc<TcpListener>,
    state: Arc<Shared<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The bytes towards a client behind which it dies, and how.
    cut: Option<(Vec<u8>, End)>,
    is_dead: bool,
    /// How many have come since it died.
    turned_away: usize,
    lines: Vec<Line>,
}

/// One connection, by its two sockets.
#[derive(Clone, Debug)]
struct Line {
    near: Arc<TcpStream>,
    far: Arc<TcpStream>,
}

impl Wire {
    pub fn to(gateway: u16) -> Wire {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let wire = Wire {
            port: listener.local_addr().expect("an address").port(),
            listener: Arc::new(listener),
            state: Arc::default(),
        };
        let (listener, state) = (Arc::clone(&wire.listener), Arc::clone(&wire.state));
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                enter(&state, near, gateway);
            }
        });
        wire
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// It is to die behind the next bytes towards a client that are these.
    pub fn die_behind(&self, bytes: &str, end: End) {
        let cut = Some((bytes.as_bytes().to_vec(), end));
        self.state.change(|state| state.cut = cut);
    }

    #[track_caller]
    pub fn wait_dead(&self) {
        let dead = self.state.wait(|state| state.is_dead.then_some(()));
        assert!(dead.is_some(), "{:?}", self.state.look(|s| s.cut.clone()));
    }

    /// Waits until somebody has tried to come back since it died.
    #[track_caller]
    pub fn wait_turned_away(&self) {
        let came = self
            .state
            .wait(|state| (state.turned_away > 0).then_some(()));
        assert!(came.is_some(), "nobody comes back");
    }

    pub fn mend(&self) {
        self.state.change(|state| {
            state.is_dead = false;
            state.turned_away = 0;
        });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.change(|state| state.die(End::Fin));
        // It fails only if it is closed already.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
    }
}

impl State {
    fn die(&mut self, end: End) {
        (self.cut, self.is_dead) = (None, true);
        for line in self.lines.drain(..) {
            line.end(end);
        }
    }

    /// If it is to die in these bytes, behind those that a client has already: how many of them still
    /// reach it, and how the wire ends.
    fn death(&self, carried: &[u8], bytes: &[u8]) -> Option<(usize, End)> {
        let (wanted, end) = self.cut.as_ref()?;
        let before = carried.len().min(wanted.len() - 1);
        let all = [&carried[carried.len() - before..], bytes].concat();
        let mut windows = all.windows(wanted.len());
        let at = windows.position(|window| window == wanted)?;
        Some((at + wanted.len() - before, *end))
    }
}

fn enter(state: &Arc<Shared<State>>, near: TcpStream, gateway: u16) {
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway)).expect("the gateway");
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("an option");
    }
    let line = Line {
        near: Arc::new(near),
        far: Arc::new(far),
    };
    let is_dead = state.change(|state| {
        if state.is_dead {
            state.turned_away += 1;
            line.end(End::Reset);
        } else {
            state.lines.push(line.clone());
        }
        state.is_dead
    });
    if is_dead {
        return;
    }
    let (upwards, state) = (line.clone(), Arc::clone(state));
    thread::spawn(move || upwards.carry_up());
    thread::spawn(move || line.carry_down(&state));
}

impl Line {
    fn carry_up(&self) {
        let mut room = [0; 4096];
        while let Ok(n @ 1..) = (&*self.near).read(&mut room) {
            if (&*self.far).write_all(&room[..n]).is_err() {
                break;
            }
        }
        // That fails only if the gateway has ended it.
        let _ = self.far.shutdown(Shutdown::Both);
    }

    fn carry_down(&self, state: &Shared<State>) {
        let (mut room, mut carried) = ([0; 4096], Vec::new());
        while let Ok(n @ 1..) = (&*self.far).read(&mut room) {
            let bytes = &room[..n];
            let is_dead = state.change(|state| {
                let death = state.death(&carried, bytes);
                if let Some((last, end)) = death {
                    // That it cannot be written is an end as well.
                    let _ = (&*self.near).write_all(&bytes[..last]);
                    state.die(end);
                }
                death.is_some()
            });
            if is_dead || (&*self.near).write_all(bytes).is_err() {
                break;
            }
            carried.extend_from_slice(bytes);
            carried.drain(..carried.len().saturating_sub(room.len()));
        }
        state.change(|state| {
            // Unless it died with the wire, it ends as the gateway has ended it.
            let is_this = |line: &Line| Arc::ptr_eq(&line.near, &self.near);
            if let Some(at) = state.lines.iter().position(is_this) {
                state.lines.swap_remove(at).end(End::Fin);
            }
        });
    }

    /// The threads hold the sockets still: shutting down the reading side alone sends nothing and
    /// wakes them, and the last one's close sends the reset.
    fn end(&self, end: End) {
        // All of it fails only if the other side has ended it.
        let _ = match end {
            End::Fin => self.near.shutdown(Shutdown::Both),
            End::Reset => SockRef::from(&*self.near)
                .set_linger(Some(Duration::ZERO))
                .and_then(|()| self.near.shutdown(Shutdown::Read)),
        };
        let _ = self.far.shutdown(Shutdown::Both);
    }
}
