//! Every short life of an instance, lived by the pure modules alone. For their tests.
//!
//! A life asks the heart what the engine's loops ask it, in their order, of a world that knows what
//! has really been applied. What may happen differently is a choice; lives are repeated until every
//! choice has been made in every way.

mod backward;
mod claims;
mod family;
mod folds;
mod life;
mod order;
mod orders;
mod person;
mod put_back;
mod world;

/// The choices along a life.
#[derive(Default)]
struct Choices {
    /// What was chosen, and of how many.
    made: Vec<(usize, usize)>,
    next: usize,
}

impl Choices {
    /// One of these; in another life another one.
    fn one_of<T: Copy>(&mut self, options: &[T]) -> T {
        if self.next == self.made.len() {
            self.made.push((0, options.len()));
        }
        let (chosen, of) = self.made[self.next];
        assert_eq!(of, options.len(), "the same life offers the same choices");
        self.next += 1;
        options[chosen]
    }
}

/// Lives every life, and says how many there are.
fn every(mut live: impl FnMut(&mut Choices)) -> usize {
    let mut choices = Choices::default();
    let mut count = 0;
    loop {
        choices.next = 0;
        live(&mut choices);
        count += 1;
        while let Some((chosen, of)) = choices.made.pop() {
            if chosen + 1 < of {
                choices.made.push((chosen + 1, of));
                break;
            }
        }
        if choices.made.is_empty() {
            return count;
        }
    }
}
