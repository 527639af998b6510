//! How far the reader of a ring has come.

/// Where the reader stands; tells the kernel at the latest when dropped.
pub(crate) struct Progress<P: Copy + PartialEq, T: FnMut(P)> {
    pub(crate) position: P,
    /// What the kernel knows.
    pub(crate) published: P,
    tell: T,
}

impl<P: Copy + PartialEq, T: FnMut(P)> Progress<P, T> {
    pub(crate) fn new(start: P, tell: T) -> Self {
        Self { position: start, published: start, tell }
    }

    pub(crate) fn publish(&mut self) {
        if self.published != self.position {
            (self.tell)(self.position);
            self.published = self.position;
        }
    }
}

impl<P: Copy + PartialEq, T: FnMut(P)> Drop for Progress<P, T> {
    fn drop(&mut self) {
        self.publish();
    }
}
