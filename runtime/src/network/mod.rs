//! The built-in pod network: bridge, veth, addresses, masquerading; by netlink, in a host task.
