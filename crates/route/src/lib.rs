//! From DNS answers and a transport table to an ordered plan of hops.
