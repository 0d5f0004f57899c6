//! How many connections there may be: in all, and from one address.
//!
//! What is remembered of an address goes with its last connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections are served at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub all: usize,
    /// From one address, or from one network of IPv6; `None`: as many as in all.
    pub per_address: Option<usize>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { all: 4096, per_address: Some(1024) }
    }
}

/// Which limit there is no room under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of all connections.
    All,
    /// That of the address.
    Address,
}

/// The connections that are open.
#[derive(Clone)]
pub(super) struct Places {
    limits: ConnectionLimits,
    taken: Arc<Mutex<Occupancy>>,
}

#[derive(Default)]
struct Occupancy {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Room for a connection, until it is dropped.
pub(super) struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, taken: Arc::default() }
    }

    /// Room for one more connection from this address.
    pub(super) fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let address = one_client(address);
        let mut taken = self.taken();
        if taken.all >= self.limits.all {
            return Err(Full::All);
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if self.limits.per_address.is_some_and(|max| of_address >= max) {
            return Err(Full::Address);
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Ok(Place { places: self.clone(), address })
    }

    fn taken(&self) -> MutexGuard<'_, Occupancy> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Entry::Occupied(mut of_address) = taken.by_address.entry(self.address) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}

/// The address that stands for all that one client has: of IPv6 that is a network of 64 bits.
pub(crate) fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_takes_no_more_than_its_share_and_all_no_more_than_there_is() {
        let places = Places::new(ConnectionLimits { all: 3, per_address: Some(2) });
        let (greedy, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = places.take(greedy).ok();
        let second = places.take(greedy).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(places.take(greedy).err(), Some(Full::Address));
        let third = places.take(other).ok();
        assert!(third.is_some());
        assert_eq!(places.take(other).err(), Some(Full::All));
        drop(first);
        assert!(places.take(greedy).is_ok());
        drop((second, third));
        assert!(places.taken().by_address.is_empty() && places.taken().all == 0);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_so_is_an_address_of_ipv4_however_it_is_spelt() {
        assert_eq!(one_client(address("2001:db8::1")), one_client(address("2001:db8::2:3")));
        assert_ne!(one_client(address("2001:db8::1")), one_client(address("2001:db8:0:1::1")));
        assert_eq!(one_client(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn without_a_limit_per_address_one_may_have_all() {
        let places = Places::new(ConnectionLimits { all: 2, per_address: None });
        let proxy = address("192.0.2.1");
        let taken = [places.take(proxy), places.take(proxy)];
        assert!(taken.iter().all(Result::is_ok));
        assert_eq!(places.take(proxy).err(), Some(Full::All));
    }
}
