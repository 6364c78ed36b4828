package cli

// nouns are the top-level words, in the order of help.
func nouns() []noun {
	return []noun{
		accountNoun(), loginNoun(), logoutNoun(),
		groupNoun(), deploymentNoun(), resourceNoun(), tagNoun(), providerNoun(),
		identityNoun(), roleNoun(), adNoun(), keyvaultNoun(), networkNoun(), cognitiveNoun(), acrNoun(), storageNoun(), mlNoun(), aksNoun(), clusterNoun(), monitorNoun(),
		configNoun(), configureNoun(), cloudNoun(), extensionNoun(),
		restNoun(), versionNoun(), completionNoun(), explainNoun(), doctorNoun(),
	}
}
