//! How many attempts at one site may run at once.

/// A window that opens with success and halves on refusal.
///
/// It grows by one for every full window of successes, as TCP's congestion avoidance does, so
/// that a site is probed gently and a refusal is answered at once. What was under way when the
/// window halved tells of the load before, so its refusals do not halve the window again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    size: u32,
    most: u32,
    /// Successes since the size last changed.
    run: u32,
    /// Results still to come from attempts that were under way at the last refusal.
    stale: u32,
}

impl Window {
    /// A window of `first` attempts that never exceeds `most`. Both are at least 1.
    #[must_use]
    pub fn new(first: u32, most: u32) -> Self {
        let most = most.max(1);
        Self { size: first.clamp(1, most), most, run: 0, stale: 0 }
    }

    /// How many attempts may run.
    #[must_use]
    pub fn size(self) -> u32 {
        self.size
    }

    /// Never more than so many from here on; what it has grown to is kept up to that.
    pub fn set_most(&mut self, most: u32) {
        self.most = most.max(1);
        if self.size > self.most {
            self.size = self.most;
            self.run = 0;
        }
    }

    /// An attempt reached the site and was served.
    pub fn succeeded(&mut self) {
        self.stale = self.stale.saturating_sub(1);
        if self.size == self.most {
            return;
        }
        self.run += 1;
        if self.run >= self.size {
            self.size += 1;
            self.run = 0;
        }
    }

    /// The site refused an attempt, while so many others are `under_way`.
    pub fn refused(&mut self, under_way: u32) {
        self.run = 0;
        if self.stale > 0 {
            self.stale -= 1;
            return;
        }
        self.size = (self.size / 2).max(1);
        self.stale = under_way;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_slowly_and_closes_fast() {
        let mut window = Window::new(2, 4);
        let mut sizes = vec![];
        for _ in 0..12 {
            window.succeeded();
            sizes.push(window.size());
        }
        assert_eq!(sizes, [2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4]);
        window.refused(0);
        assert_eq!(window.size(), 2);
        window.refused(0);
        window.refused(0);
        assert_eq!(window.size(), 1);
        assert_eq!(Window::new(0, 0).size(), 1);
    }

    #[test]
    fn a_new_bound_counts_at_once_and_keeps_what_was_learned() {
        let mut window = Window::new(6, 8);
        window.set_most(4);
        assert_eq!(window.size(), 4);
        window.set_most(20);
        assert_eq!(window.size(), 4);
        (0..4).for_each(|_| window.succeeded());
        assert_eq!(window.size(), 5);
        window.set_most(0);
        assert_eq!(window.size(), 1);
    }

    #[test]
    fn what_was_under_way_does_not_close_it_again() {
        let mut window = Window::new(8, 8);
        window.refused(7);
        assert_eq!(window.size(), 4);
        for _ in 0..7 {
            window.refused(3);
        }
        assert_eq!(window.size(), 4);
        window.refused(3);
        assert_eq!(window.size(), 2);
    }
}
