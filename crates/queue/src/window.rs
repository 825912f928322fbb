//! How many attempts at one site may run at once.

/// A window that opens with success and halves on refusal.
///
/// It grows by one for every full window of successes, as TCP's congestion avoidance does, so
/// that a site is probed gently and a refusal is answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    size: u32,
    most: u32,
    /// Successes since the size last changed.
    run: u32,
}

impl Window {
    /// A window of `first` attempts that never exceeds `most`. Both are at least 1.
    #[must_use]
    pub fn new(first: u32, most: u32) -> Self {
        let most = most.max(1);
        Self { size: first.clamp(1, most), most, run: 0 }
    }

    /// How many attempts may run.
    #[must_use]
    pub fn size(self) -> u32 {
        self.size
    }

    /// An attempt reached the site and was served.
    pub fn succeeded(&mut self) {
        self.run += 1;
        if self.run >= self.size && self.size < self.most {
            self.size += 1;
            self.run = 0;
        }
    }

    /// The site refused or failed.
    pub fn refused(&mut self) {
        self.size = (self.size / 2).max(1);
        self.run = 0;
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
        window.refused();
        assert_eq!(window.size(), 2);
        window.refused();
        window.refused();
        assert_eq!(window.size(), 1);
        assert_eq!(Window::new(0, 0).size(), 1);
    }
}
