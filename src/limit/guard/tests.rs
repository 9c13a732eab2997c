use super::*;

fn guard(limits: &AddressLimits) -> Arc<Guard> {
    Arc::new(Guard::new(limits, Proxies::default(), Arc::default()))
}

fn reason(refused: Result<Permit, Refused>) -> Reason {
    refused.unwrap_err().reason
}

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[test]
fn default_limits_allow_sixty_connects_in_five_minutes() {
    let guard = guard(&AddressLimits::default());
    for _ in 0..60 {
        drop(guard.admit(ADDRESS).unwrap());
    }
    let refused = guard.admit(ADDRESS).unwrap_err();
    assert_eq!(refused.reason, Reason::Rate);
    assert!(refused.retry_after <= Duration::from_secs(5));
    assert!(guard.admit(OTHER).is_ok());
    assert_eq!(guard.metrics.counter(Counter::RefusedRate), 1);
}

#[test]
fn loopback_is_exempt_unless_disabled() {
    let strict = AddressLimits::default()
        .connects(5)
        .connections_per_address(20);
    let exempting = guard(&strict);
    for _ in 0..100 {
        drop(exempting.admit(LOOPBACK).unwrap());
    }
    let guard = guard(&strict.limit_loopback());
    for _ in 0..5 {
        drop(guard.admit(LOOPBACK).unwrap());
    }
    assert_eq!(reason(guard.admit(LOOPBACK)), Reason::Rate);
}

#[test]
fn connections_are_limited_by_address_and_in_all() {
    let guard = guard(
        &AddressLimits::default()
            .connections_per_address(1)
            .connections(2),
    );
    let first = guard.admit(ADDRESS).unwrap();
    assert_eq!(reason(guard.admit(ADDRESS)), Reason::Address);
    let _second = guard.admit(OTHER).unwrap();
    assert_eq!(reason(guard.admit(LOOPBACK)), Reason::Full);
    drop(first);
    assert!(guard.admit(LOOPBACK).is_ok());
}

#[test]
fn refused_connections_are_observed_with_their_reason() {
    let guard = guard(&AddressLimits::default().connections_per_address(1));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&seen);
    guard.on_refused(move |address, reason| observed.lock().push((address, reason)));
    guard.on_refused(|_, _| panic!("only the first observer is called"));
    let _first = guard.admit(ADDRESS).unwrap();
    assert!(guard.admit(ADDRESS).is_err());
    let block = Block::new(Network::of(OTHER), None, "floods", BlockSource::Admin);
    guard.block(block).unwrap();
    assert!(guard.check(OTHER).is_err());
    assert_eq!(
        *seen.lock(),
        [(ADDRESS, Reason::Address), (OTHER, Reason::Blocked)]
    );
}

#[test]
fn blocked_network_is_refused_until_block_is_removed() {
    let guard = guard(&AddressLimits::default().blocked(vec!["198.51.100.0/24".parse().unwrap()]));
    let configured: IpAddr = "198.51.100.9".parse().unwrap();
    assert_eq!(reason(guard.admit(configured)), Reason::Blocked);
    let minute = Some(Duration::from_secs(60));
    let block = Block::new(Network::of(ADDRESS), minute, "why", BlockSource::Admin);
    let id = block.id;
    guard.block(block).unwrap();
    let refused = guard.admit(ADDRESS).unwrap_err();
    assert_eq!(refused.reason, Reason::Blocked);
    assert!(refused.retry_after <= Duration::from_secs(60));
    assert_eq!(guard.blocks().len(), 2);
    assert_eq!(guard.metrics.gauge(Gauge::Blocks), 2);
    assert!(guard.unblock(id).is_some());
    assert!(guard.admit(ADDRESS).is_ok());
}

#[test]
fn repeated_violations_block_an_address_for_block_time() {
    let guard = guard(
        &AddressLimits::default()
            .connects(1)
            .block_after(3)
            .block_time(Duration::from_secs(900)),
    );
    let mut new_blocks = guard.automatic_blocks().unwrap();
    assert!(guard.automatic_blocks().is_none());
    drop(guard.admit(ADDRESS).unwrap());
    for _ in 0..3 {
        assert_eq!(reason(guard.admit(ADDRESS)), Reason::Rate);
    }
    let refused = guard.admit(ADDRESS).unwrap_err();
    assert_eq!(refused.reason, Reason::Blocked);
    assert!(refused.retry_after > Duration::from_secs(890));
    let block = new_blocks.try_recv().unwrap();
    assert_eq!(block.source, BlockSource::Automatic);
    assert_eq!(block.cidr, Network::of(ADDRESS));
    assert!(guard.admit(OTHER).is_ok());
}

#[test]
fn a_trusted_proxy_is_never_blocked_for_what_its_clients_do() {
    let limits = AddressLimits::default().block_after(1);
    let proxies = Proxies::new([Network::of(ADDRESS)]);
    let guard = Arc::new(Guard::new(&limits, proxies, Arc::default()));
    assert!(!guard.violation(ADDRESS, Violation::Flood));
    assert!(guard.admit(ADDRESS).is_ok());
    assert!(guard.violation(OTHER, Violation::Flood));
    assert_eq!(reason(guard.admit(OTHER)), Reason::Blocked);
}

#[test]
fn refused_credentials_have_their_own_block_threshold() {
    let limits = AddressLimits::default()
        .block_after(2)
        .block_after_credentials(5);
    let proxy: IpAddr = "198.51.100.1".parse().unwrap();
    let proxies = Proxies::new([Network::of(proxy)]);
    let guard = Arc::new(Guard::new(&limits, proxies, Arc::default()));
    for _ in 0..100 {
        assert!(!guard.violation(LOOPBACK, Violation::Credentials));
        assert!(!guard.violation(proxy, Violation::Credentials));
    }
    for _ in 0..4 {
        assert!(!guard.violation(ADDRESS, Violation::Credentials));
    }
    assert!(!guard.violation(ADDRESS, Violation::Flood));
    assert!(guard.violation(ADDRESS, Violation::Credentials));
    // Further violations of a blocked address return `true` again.
    assert!(guard.violation(ADDRESS, Violation::Credentials));
    assert_eq!(reason(guard.admit(ADDRESS)), Reason::Blocked);
    assert_eq!(guard.blocks().len(), 1);
    assert!(guard.admit(OTHER).is_ok());
    assert!(guard.admit(LOOPBACK).is_ok());
    assert_eq!(guard.metrics.counter(Counter::ViolationsCredentials), 206);
    assert_eq!(guard.metrics.counter(Counter::BlocksAutomatic), 1);
}

#[test]
fn an_automatic_block_ends_by_itself() {
    let guard = guard(
        &AddressLimits::default()
            .block_after_credentials(1)
            .block_time(Duration::ZERO),
    );
    assert!(guard.violation(ADDRESS, Violation::Credentials));
    assert!(guard.admit(ADDRESS).is_ok());
    guard.sweep_once();
    assert_eq!(guard.metrics.gauge(Gauge::Blocks), 0);
}

#[test]
fn sweep_removes_expired_addresses_and_blocks() {
    let guard = guard(
        &AddressLimits::default()
            .connects(1000)
            .connects_window(Duration::from_nanos(1000)),
    );
    let over = Block::new(
        Network::of(OTHER),
        Some(Duration::ZERO),
        "why",
        BlockSource::Admin,
    );
    guard.block(over).unwrap();
    drop(guard.admit(ADDRESS).unwrap());
    guard.sweep_once();
    assert_eq!(guard.metrics.gauge(Gauge::LimitedAddresses), 0);
    assert_eq!(guard.metrics.gauge(Gauge::Blocks), 0);
}
