//! What is done with the events of one type.

use ringfence_value::{Condition, Field, Layout};

/// What is done with the events of one type.
#[derive(Clone)]
pub struct View {
    pub condition: Option<Condition>,
    /// What is printed of them, or counted by; `None`: they have none of it.
    pub layout: Option<Layout>,
    /// What they are sorted by.
    pub order: Option<Field>,
}

/// Why an event is not wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Wanted,
    /// The condition does not hold.
    Filtered,
    /// It has no such field.
    Without,
}

impl View {
    #[cfg(test)]
    pub fn new(condition: Option<Condition>, layout: Layout) -> View {
        View { condition, layout: Some(layout), order: None }
    }

    /// Whether an event is wanted.
    pub fn verdict(&self, bytes: &[u8]) -> Verdict {
        match &self.condition {
            Some(condition) if !condition.holds(bytes) => Verdict::Filtered,
            _ if self.layout.is_none() => Verdict::Without,
            _ => Verdict::Wanted,
        }
    }
}
