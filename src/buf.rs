//! Byte queues of a connection, and the pool that their memory comes from.
//!
//! A queue that is empty owns no memory: an idle stream costs none, and a busy connection takes a
//! warm buffer from [`Spares`] instead of the allocator.

/// Largest buffer worth keeping for reuse, in bytes: one read's worth.
const SPARE_BYTES: usize = 64 * 1024;

/// The smallest buffer, and up to what size one grows to its double. glibc keeps smaller pieces in a
/// cache of the thread when they are freed, where each keeps all that is free below it in the heap.
const SMALL_BYTES: usize = 1088;

/// Most buffers kept for reuse. A turn of the loop uses few at once, as each is given back when its
/// bytes are gone.
const SPARE_COUNT: usize = 16;

/// Memory beside one and a half times what is queued that is not worth moving anything for.
const SLACK_BYTES: usize = 256;

/// Empty buffers waiting for their next use.
#[derive(Debug, Default)]
pub struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// An empty buffer, the largest of those that are spare.
    pub fn take(&mut self) -> Vec<u8> {
        self.take_up_to(0, usize::MAX)
    }

    /// An empty buffer, the largest spare one of those that hold at least `least` and at most
    /// `most` bytes.
    fn take_up_to(&mut self, least: usize, most: usize) -> Vec<u8> {
        let sizes = self.0.iter().map(Vec::capacity).enumerate();
        let best = sizes
            .filter(|(_, size)| (least..=most).contains(size))
            .max_by_key(|(_, size)| *size);
        match best {
            Some((at, _)) => self.0.swap_remove(at),
            None => Vec::new(),
        }
    }

    /// Takes back a buffer; what it holds is dropped.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        if size > 0 && size <= SPARE_BYTES && self.0.len() < SPARE_COUNT {
            buffer.clear();
            self.0.push(buffer);
        }
    }

    /// Gives all of them back to the allocator.
    pub fn release(&mut self) {
        self.0 = Vec::new();
    }
}

/// A first-in first-out queue of bytes in one piece of memory.
#[derive(Debug, Default)]
pub struct ByteQueue {
    bytes: Vec<u8>,
    start: usize,
}

impl ByteQueue {
    /// Bytes in the queue.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is queued, oldest first.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The memory behind the queue's end, to append to; `room` is the number of bytes that are
    /// about to be written.
    pub fn tail(&mut self, room: usize, spares: &mut Spares) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = spares.take();
        }
        self.make_room(room);
        &mut self.bytes
    }

    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8], spares: &mut Spares) {
        self.tail(bytes.len(), spares).extend_from_slice(bytes);
    }

    /// Takes `n` bytes off the front; the memory goes back to the pool with the last of them.
    pub fn consume(&mut self, n: usize, spares: &mut Spares) {
        self.start = (self.start + n).min(self.bytes.len());
        if self.is_empty() {
            self.clear(spares);
        }
    }

    /// Takes off what lies behind the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        self.bytes.truncate(self.start + n);
    }

    /// Bytes of memory in use, which is what limits count.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Brings the memory close to what is queued, which is about to stay for a while: a warm buffer
    /// goes back to the pool, and what was consumed is given back. Two bytes are moved at the most
    /// for each that is given back, so that it costs little beside the consuming.
    pub fn fit(&mut self, spares: &mut Spares) {
        let length = self.len();
        let most = (length + length / 2).max(SMALL_BYTES) + SLACK_BYTES;
        if self.bytes.capacity() <= most {
            return;
        }
        let mut fitting = spares.take_up_to(length, most);
        if fitting.capacity() == 0 {
            fitting.reserve_exact(length.max(SMALL_BYTES));
        }
        fitting.extend_from_slice(self.bytes());
        self.start = 0;
        spares.give(std::mem::replace(&mut self.bytes, fitting));
    }

    /// Drops everything that is queued.
    pub fn clear(&mut self, spares: &mut Spares) {
        self.start = 0;
        spares.give(std::mem::take(&mut self.bytes));
    }

    /// Takes the queue's content out, to be handed back with [`ByteQueue::put_back`].
    pub fn take(&mut self) -> ByteQueue {
        std::mem::take(self)
    }

    /// Undoes [`ByteQueue::take`], less what was consumed in between.
    pub fn put_back(&mut self, mut taken: ByteQueue, spares: &mut Spares) {
        debug_assert!(self.is_empty());
        if taken.is_empty() {
            taken.clear(spares);
        } else {
            *self = taken;
        }
    }

    /// Room for `more` bytes: first by moving the rest to the front, which is free once at least
    /// half is consumed, then by growing. All but small queues grow by a quarter, not to its double, so
    /// that what a limit counts and what the memory holds stay close.
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() == 0 {
            return self.bytes.reserve_exact(more.max(SMALL_BYTES));
        }
        if self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let length = self.bytes.len();
        if self.bytes.capacity() - length < more && length + more > SMALL_BYTES {
            self.bytes.reserve_exact(more.max(length / 4));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let (mut queue, mut spares) = (ByteQueue::default(), Spares::default());
        queue.push(b"abc", &mut spares);
        queue.consume(2, &mut spares);
        queue.push(b"de", &mut spares);
        assert_eq!(queue.bytes(), b"cde");
        queue.consume(3, &mut spares);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_empty_queue_owns_no_memory_and_its_buffer_serves_the_next() {
        let (mut queue, mut spares) = (ByteQueue::default(), Spares::default());
        queue.push(&[7; 1000], &mut spares);
        let memory = queue.bytes().as_ptr();
        queue.consume(1000, &mut spares);
        assert_eq!(queue.bytes.capacity(), 0);
        let mut other = ByteQueue::default();
        other.push(b"x", &mut spares);
        assert_eq!(other.bytes().as_ptr(), memory);
    }

    #[test]
    fn the_pool_keeps_no_large_buffers_and_not_many() {
        let mut spares = Spares::default();
        spares.give(Vec::with_capacity(SPARE_BYTES + 1));
        assert!(spares.0.is_empty());
        for _ in 0..2 * SPARE_COUNT {
            spares.give(Vec::with_capacity(10));
        }
        assert_eq!(spares.0.len(), SPARE_COUNT);
    }

    #[test]
    fn memory_stays_close_to_what_is_queued() {
        let (mut queue, mut spares) = (ByteQueue::default(), Spares::default());
        let chunk = [1u8; 10_000];
        for _ in 0..400 {
            queue.push(&chunk, &mut spares);
        }
        assert!(queue.memory() < queue.len() + queue.len() / 3);
        for _ in 0..10_000 {
            queue.consume(chunk.len(), &mut spares);
            queue.push(&chunk, &mut spares);
        }
        assert!(queue.memory() < 3 * queue.len());
        while queue.len() > chunk.len() {
            queue.consume(chunk.len(), &mut spares);
            queue.fit(&mut spares);
            assert!(queue.memory() <= (3 * queue.len() / 2).max(SMALL_BYTES) + SLACK_BYTES);
            assert!(queue.bytes().iter().all(|byte| *byte == 1));
        }
    }

    #[test]
    fn a_warm_buffer_does_not_stay_for_a_few_bytes() {
        let (mut queue, mut spares) = (ByteQueue::default(), Spares::default());
        spares.give(Vec::with_capacity(SPARE_BYTES));
        queue.push(b"the rest", &mut spares);
        assert_eq!((queue.memory(), spares.0.len()), (SPARE_BYTES, 0));
        queue.fit(&mut spares);
        assert_eq!((queue.memory(), spares.0.len()), (SMALL_BYTES, 1));
        assert_eq!(queue.bytes(), b"the rest");
        // Once it fits, it stays where it is.
        let memory = queue.bytes().as_ptr();
        queue.fit(&mut spares);
        assert_eq!(queue.bytes().as_ptr(), memory);
        // A small spare one serves the next, and the warm one whoever needs much.
        queue.clear(&mut spares);
        queue.push(b"more", &mut spares);
        assert_eq!(queue.memory(), SPARE_BYTES);
        queue.fit(&mut spares);
        assert_eq!(queue.bytes().as_ptr(), memory);
    }
}
