package vnet

// MaxUnsureOf is the bound that tests run into.
const MaxUnsureOf = maxUnsureOf
