package machinelearningservices

// GroupID is the group of a workspace that private endpoints reach.
const GroupID = "amlworkspace"

// uidKey is in Private: the workspace's GUID.
const uidKey = "uid"
