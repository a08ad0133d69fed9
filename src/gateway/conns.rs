//! The slab of connections.

use slab::Slab;

use super::ConnId;
use super::conn::{Conn, Scope};
use crate::time::Time;

/// All connections by their slots, those that are closed and not yet reaped included.
#[derive(Debug)]
pub(super) struct Conns<S> {
    slots: Slab<Conn<S>>,
    generation: u32,
    /// Those that came through the internal listener.
    internal: usize,
}

impl<S> Conns<S> {
    pub(super) fn new() -> Conns<S> {
        Conns {
            slots: Slab::new(),
            generation: 0,
            internal: 0,
        }
    }

    pub(super) fn insert(&mut self, io: S, scope: Scope, now: Time) -> &mut Conn<S> {
        self.generation = self.generation.wrapping_add(1);
        self.internal += usize::from(scope == Scope::Internal);
        let slot = self.slots.vacant_entry();
        let id = ConnId {
            index: slot.key() as u32,
            generation: self.generation,
        };
        slot.insert(Conn::new(io, id, scope, now))
    }

    /// Frees the slot of a closed connection.
    pub(super) fn remove(&mut self, id: ConnId) {
        let conn = self.slots.remove(id.index());
        self.internal -= usize::from(conn.scope == Scope::Internal);
    }

    /// The slot's tenant if it is the one that is meant and not closed.
    pub(super) fn get(&self, id: ConnId) -> Option<&Conn<S>> {
        let conn = self.slots.get(id.index())?;
        (conn.id == id && !conn.is_closed()).then_some(conn)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn<S>> {
        let conn = self.slots.get_mut(id.index())?;
        (conn.id == id && !conn.is_closed()).then_some(conn)
    }

    /// The slot's tenant, closed or not.
    pub(super) fn tenant(&mut self, id: ConnId) -> Option<&mut Conn<S>> {
        self.slots.get_mut(id.index()).filter(|conn| conn.id == id)
    }

    /// Who uses a slot now.
    pub(super) fn at(&self, index: usize) -> Option<ConnId> {
        let conn = self.slots.get(index)?;
        (!conn.is_closed()).then_some(conn.id)
    }

    /// All tenants, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn<S>> {
        self.slots.iter().map(|(_, conn)| conn)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many of them came through the internal listener.
    pub(super) fn internal(&self) -> usize {
        self.internal
    }

    /// How many there is memory for.
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Gives back the memory behind the last tenant.
    pub(super) fn shrink_to_fit(&mut self) {
        self.slots.shrink_to_fit();
    }
}
