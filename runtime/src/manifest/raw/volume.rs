//! Volumes.

use super::{Any, Quantity, objects};

objects! {
    /// An entry of `spec.volumes`. The sources that are [`Any`] are refused by name.
    Volume {
        name: Option<String>,
        aws_elastic_block_store: Option<Any>,
        azure_disk: Option<Any>,
        azure_file: Option<Any>,
        cephfs: Option<Any>,
        cinder: Option<Any>,
        config_map: Option<ConfigMapVolume>,
        csi: Option<Any>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiVolume>,
        empty_dir: Option<EmptyDir>,
        ephemeral: Option<Any>,
        fc: Option<Any>,
        flex_volume: Option<Any>,
        flocker: Option<Any>,
        gce_persistent_disk: Option<Any>,
        git_repo: Option<Any>,
        glusterfs: Option<Any>,
        host_path: Option<HostPath>,
        image: Option<Any>,
        iscsi: Option<Any>,
        nfs: Option<Any>,
        persistent_volume_claim: Option<Any>,
        photon_persistent_disk: Option<Any>,
        portworx_volume: Option<Any>,
        projected: Option<Projected>,
        quobyte: Option<Any>,
        rbd: Option<Any>,
        #[serde(rename = "scaleIO")]
        scale_io: Option<Any>,
        secret: Option<SecretVolume>,
        storageos: Option<Any>,
        vsphere_volume: Option<Any>,
    }
    /// `emptyDir`.
    EmptyDir {
        medium: Option<String>,
        size_limit: Option<Quantity>,
    }
    /// `hostPath`.
    HostPath {
        path: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    /// `configMap`.
    ConfigMapVolume {
        default_mode: Option<i32>,
        items: Vec<KeyToPath>,
        name: Option<String>,
        optional: Option<bool>,
    }
    /// `secret`.
    SecretVolume {
        default_mode: Option<i32>,
        items: Vec<KeyToPath>,
        optional: Option<bool>,
        secret_name: Option<String>,
    }
    /// An entry of `items`.
    KeyToPath {
        key: Option<String>,
        mode: Option<i32>,
        path: Option<String>,
    }
    /// `downwardAPI`.
    DownwardApiVolume {
        default_mode: Option<i32>,
        items: Vec<DownwardApiFile>,
    }
    /// An entry of `items` of a downward API volume.
    DownwardApiFile {
        field_ref: Option<ObjectFieldSelector>,
        mode: Option<i32>,
        path: Option<String>,
        resource_field_ref: Option<ResourceFieldSelector>,
    }
    /// `projected`.
    Projected {
        default_mode: Option<i32>,
        sources: Vec<ProjectedSource>,
    }
    /// An entry of `sources`.
    ProjectedSource {
        cluster_trust_bundle: Option<Any>,
        config_map: Option<ObjectProjection>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiProjection>,
        pod_certificate: Option<Any>,
        secret: Option<ObjectProjection>,
        service_account_token: Option<Any>,
    }
    /// `configMap` and `secret` of a projected volume.
    ObjectProjection {
        items: Vec<KeyToPath>,
        name: Option<String>,
        optional: Option<bool>,
    }
    /// `downwardAPI` of a projected volume.
    DownwardApiProjection {
        items: Vec<DownwardApiFile>,
    }
    /// `fieldRef`.
    ObjectFieldSelector {
        api_version: Option<String>,
        field_path: Option<String>,
    }
    /// `resourceFieldRef`.
    ResourceFieldSelector {
        container_name: Option<String>,
        divisor: Option<Quantity>,
        resource: Option<String>,
    }
}

impl Volume {
    /// The names of the sources that are given.
    #[must_use]
    pub fn sources(&self) -> Vec<&'static str> {
        let done = [
            ("configMap", self.config_map.is_some()),
            ("downwardAPI", self.downward_api.is_some()),
            ("emptyDir", self.empty_dir.is_some()),
            ("hostPath", self.host_path.is_some()),
            ("projected", self.projected.is_some()),
            ("secret", self.secret.is_some()),
        ];
        let done = done.into_iter().filter(|(_, given)| *given).map(|(name, _)| name);
        done.chain(self.unsupported_sources()).collect()
    }

    /// The names of the given sources that hull does not have.
    pub fn unsupported_sources(&self) -> impl Iterator<Item = &'static str> {
        [
            ("awsElasticBlockStore", &self.aws_elastic_block_store),
            ("azureDisk", &self.azure_disk),
            ("azureFile", &self.azure_file),
            ("cephfs", &self.cephfs),
            ("cinder", &self.cinder),
            ("csi", &self.csi),
            ("ephemeral", &self.ephemeral),
            ("fc", &self.fc),
            ("flexVolume", &self.flex_volume),
            ("flocker", &self.flocker),
            ("gcePersistentDisk", &self.gce_persistent_disk),
            ("gitRepo", &self.git_repo),
            ("glusterfs", &self.glusterfs),
            ("image", &self.image),
            ("iscsi", &self.iscsi),
            ("nfs", &self.nfs),
            ("persistentVolumeClaim", &self.persistent_volume_claim),
            ("photonPersistentDisk", &self.photon_persistent_disk),
            ("portworxVolume", &self.portworx_volume),
            ("quobyte", &self.quobyte),
            ("rbd", &self.rbd),
            ("scaleIO", &self.scale_io),
            ("storageos", &self.storageos),
            ("vsphereVolume", &self.vsphere_volume),
        ]
        .into_iter()
        .filter(|(_, source)| source.is_some())
        .map(|(name, _)| name)
        .collect::<Vec<_>>()
        .into_iter()
    }
}
