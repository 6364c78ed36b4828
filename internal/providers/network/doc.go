// Package network is Microsoft.Network: virtual networks with subnets and
// peerings, private endpoints with their interfaces and DNS zone groups, and
// private DNS zones.
//
// A virtual network is real where the machine can make it: see [Wire]. What is
// not enforced here (security groups, route tables, gateways, delegations) is
// refused with the reason, so that nobody relies on it.
//
// Sources: the REST API references of Virtual Network (2024-05-01), Private
// Link and Private DNS (2020-06-01); the limits of "Azure networking limits".
package network
