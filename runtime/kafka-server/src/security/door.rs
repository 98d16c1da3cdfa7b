//! How many may be connected: in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Lets in as many as may be.
pub(crate) struct Door {
    most: usize,
    most_of_one: usize,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Somebody who is in; left when dropped.
pub(crate) struct Place {
    address: IpAddr,
    inside: Arc<Mutex<Inside>>,
}

impl Door {
    /// Lets in so many, and so many from one address.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Door { most, most_of_one, inside: Arc::default() }
    }

    /// A place, if there is one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut inside = self.inside.lock();
        let of_one = inside.by_address.get(&address).copied().unwrap_or(0);
        if inside.all >= self.most || of_one >= self.most_of_one {
            return None;
        }
        inside.all += 1;
        inside.by_address.insert(address, of_one + 1);
        Some(Place { address, inside: self.inside.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.inside.lock();
        inside.all -= 1;
        if let Some(count) = inside.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_let_in_and_so_many_from_one_address() {
        let door = Door::new(3, 2);
        let [one, two, mapped] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|text| text.parse().unwrap());
        let first = door.enter(one).unwrap();
        let _second = door.enter(mapped).unwrap();
        assert!(door.enter(one).is_none(), "an address has its share, however it is written");
        let third = door.enter(two).unwrap();
        assert!(door.enter(two).is_none(), "nobody gets in where it is full");
        drop(third);
        drop(first);
        let _again = door.enter(one).unwrap();
        drop(door.enter(two).unwrap());
        assert_eq!(door.inside.lock().by_address.len(), 1, "who has left is forgotten");
    }
}
