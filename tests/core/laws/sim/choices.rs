//! Where a run's decisions come from.

/// A source of decisions.
pub(crate) trait Choices {
    /// A number below `n`, which is at least 1.
    fn below(&mut self, n: u32) -> u32;

    /// Whether there are no decisions left to take.
    fn is_spent(&self) -> bool;

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u32) as usize]
    }
}
