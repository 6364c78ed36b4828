// Package machinelearningservices serves workspaces of
// Microsoft.MachineLearningServices: what belongs to them, their managed
// networks with the rules of what may leave them, and the private endpoints
// that reach them. [Workspaces] tells the rest of the program what networks
// there should be.
//
// Source: "Azure Machine Learning REST API", Workspaces and Managed Network.
package machinelearningservices
