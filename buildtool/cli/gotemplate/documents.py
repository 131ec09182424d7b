"""The Go types of Docker's documents: what `{{.State}}` prints, in which order, and what `{{.Nope}}` is refused with.

A line of a struct is its field's name, its type and, where it differs, its name in JSON with `,omitempty`; `+` marks
what is embedded. Source: the Engine API's definition 1.50, and what docker 28.2 prints by %#v.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Names for other types, which they print as.
NAMED = {
    "blkiodev.Path": "string",
    "container.CgroupnsMode": "string",
    "container.IpcMode": "string",
    "container.Isolation": "string",
    "container.NetworkMode": "string",
    "container.PidMode": "string",
    "container.CgroupSpec": "string",
    "container.RestartPolicyMode": "string",
    "container.UTSMode": "string",
    "container.UsernsMode": "string",
    "digest.Digest": "string",
    "events.Action": "string",
    "events.Type": "string",
    "mount.Propagation": "string",
    "mount.Type": "string",
    "nat.Port": "string",
    "nat.PortMap": "map[nat.Port][]nat.PortBinding",
    "nat.PortSet": "map[nat.Port]empty",
    "strslice.StrSlice": "[]string",
    "swarm.LocalNodeState": "string",
    "time.Duration": "int64",
}
# How a struct prints whose name here is another.
NAMES = {"empty": "struct {}", "platformName": "struct { Name string }"}

STRUCTS = {
    "empty": "",
    "mount.ClusterOptions": "",
    "swarm.ClusterInfo": "",
    "volume.ClusterVolume": "",
    "time.Time": "",
    "blkiodev.WeightDevice": "Path string\nWeight uint16",
    "blkiodev.ThrottleDevice": "Path string\nRate uint64",
    "units.Ulimit": "Name string\nHard int64\nSoft int64",
    "platformName": "Name string",
    "container.InspectResponse": """
        +ContainerJSONBase *container.ContainerJSONBase
        Mounts []container.MountPoint
        Config *container.Config
        NetworkSettings *container.NetworkSettings
        ImageManifestDescriptor *v1.Descriptor ,omitempty""",
    "container.ContainerJSONBase": """
        ID string Id
        Created string
        Path string
        Args []string
        State *container.State
        Image string
        ResolvConfPath string
        HostnamePath string
        HostsPath string
        LogPath string
        Name string
        RestartCount int
        Driver string
        Platform string
        MountLabel string
        ProcessLabel string
        AppArmorProfile string
        ExecIDs []string
        HostConfig *container.HostConfig
        GraphDriver storage.DriverData
        SizeRw *int64 ,omitempty
        SizeRootFs *int64 ,omitempty""",
    "container.State": """
        Status string
        Running bool
        Paused bool
        Restarting bool
        OOMKilled bool
        Dead bool
        Pid int
        ExitCode int
        Error string
        StartedAt string
        FinishedAt string
        Health *container.Health ,omitempty""",
    "container.Health": "Status string\nFailingStreak int\nLog []*container.HealthcheckResult",
    "container.HealthcheckResult": "Start time.Time\nEnd time.Time\nExitCode int\nOutput string",
    "container.MountPoint": """
        Type mount.Type ,omitempty
        Name string ,omitempty
        Source string
        Destination string
        Driver string ,omitempty
        Mode string
        RW bool
        Propagation mount.Propagation""",
    "container.Config": """
        Hostname string
        Domainname string
        User string
        AttachStdin bool
        AttachStdout bool
        AttachStderr bool
        ExposedPorts nat.PortSet ,omitempty
        Tty bool
        OpenStdin bool
        StdinOnce bool
        Env []string
        Cmd strslice.StrSlice
        Healthcheck *v1.HealthcheckConfig ,omitempty
        ArgsEscaped bool ,omitempty
        Image string
        Volumes map[string]empty
        WorkingDir string
        Entrypoint strslice.StrSlice
        NetworkDisabled bool ,omitempty
        MacAddress string ,omitempty
        OnBuild []string
        Labels map[string]string
        StopSignal string ,omitempty
        StopTimeout *int ,omitempty
        Shell strslice.StrSlice ,omitempty""",
    "v1.HealthcheckConfig": """
        Test []string ,omitempty
        Interval time.Duration ,omitempty
        Timeout time.Duration ,omitempty
        StartPeriod time.Duration ,omitempty
        StartInterval time.Duration ,omitempty
        Retries int ,omitempty""",
    "container.HostConfig": """
        Binds []string
        ContainerIDFile string
        LogConfig container.LogConfig
        NetworkMode container.NetworkMode
        PortBindings nat.PortMap
        RestartPolicy container.RestartPolicy
        AutoRemove bool
        VolumeDriver string
        VolumesFrom []string
        ConsoleSize [2]uint
        Annotations map[string]string ,omitempty
        CapAdd strslice.StrSlice
        CapDrop strslice.StrSlice
        CgroupnsMode container.CgroupnsMode
        DNS []string Dns
        DNSOptions []string DnsOptions
        DNSSearch []string DnsSearch
        ExtraHosts []string
        GroupAdd []string
        IpcMode container.IpcMode
        Cgroup container.CgroupSpec
        Links []string
        OomScoreAdj int
        PidMode container.PidMode
        Privileged bool
        PublishAllPorts bool
        ReadonlyRootfs bool
        SecurityOpt []string
        StorageOpt map[string]string ,omitempty
        Tmpfs map[string]string ,omitempty
        UTSMode container.UTSMode
        UsernsMode container.UsernsMode
        ShmSize int64
        Sysctls map[string]string ,omitempty
        Runtime string ,omitempty
        Isolation container.Isolation
        +Resources container.Resources
        Mounts []mount.Mount ,omitempty
        MaskedPaths []string
        ReadonlyPaths []string
        Init *bool ,omitempty""",
    "container.LogConfig": "Type string\nConfig map[string]string",
    "container.RestartPolicy": "Name container.RestartPolicyMode\nMaximumRetryCount int",
    "container.Resources": """
        CPUShares int64 CpuShares
        Memory int64
        NanoCPUs int64 NanoCpus
        CgroupParent string
        BlkioWeight uint16
        BlkioWeightDevice []*blkiodev.WeightDevice
        BlkioDeviceReadBps []*blkiodev.ThrottleDevice
        BlkioDeviceWriteBps []*blkiodev.ThrottleDevice
        BlkioDeviceReadIOps []*blkiodev.ThrottleDevice
        BlkioDeviceWriteIOps []*blkiodev.ThrottleDevice
        CPUPeriod int64 CpuPeriod
        CPUQuota int64 CpuQuota
        CPURealtimePeriod int64 CpuRealtimePeriod
        CPURealtimeRuntime int64 CpuRealtimeRuntime
        CpusetCpus string
        CpusetMems string
        Devices []container.DeviceMapping
        DeviceCgroupRules []string
        DeviceRequests []container.DeviceRequest
        KernelMemory int64 ,omitempty
        KernelMemoryTCP int64 ,omitempty
        MemoryReservation int64
        MemorySwap int64
        MemorySwappiness *int64
        OomKillDisable *bool
        PidsLimit *int64
        Ulimits []*units.Ulimit
        CPUCount int64 CpuCount
        CPUPercent int64 CpuPercent
        IOMaximumIOps uint64
        IOMaximumBandwidth uint64""",
    "container.DeviceMapping": "PathOnHost string\nPathInContainer string\nCgroupPermissions string",
    "container.DeviceRequest": """
        Driver string
        Count int
        DeviceIDs []string
        Capabilities [][]string
        Options map[string]string""",
    "mount.Mount": """
        Type mount.Type ,omitempty
        Source string ,omitempty
        Target string ,omitempty
        ReadOnly bool ,omitempty
        Consistency string ,omitempty
        BindOptions *mount.BindOptions ,omitempty
        VolumeOptions *mount.VolumeOptions ,omitempty
        ImageOptions *mount.ImageOptions ,omitempty
        TmpfsOptions *mount.TmpfsOptions ,omitempty
        ClusterOptions *mount.ClusterOptions ,omitempty""",
    "mount.BindOptions": """
        Propagation mount.Propagation ,omitempty
        NonRecursive bool ,omitempty
        CreateMountpoint bool ,omitempty
        ReadOnlyNonRecursive bool ,omitempty
        ReadOnlyForceRecursive bool ,omitempty""",
    "mount.VolumeOptions": """
        NoCopy bool ,omitempty
        Labels map[string]string ,omitempty
        Subpath string ,omitempty
        DriverConfig *mount.Driver ,omitempty""",
    "mount.Driver": "Name string ,omitempty\nOptions map[string]string ,omitempty",
    "mount.ImageOptions": "Subpath string ,omitempty",
    "mount.TmpfsOptions": "SizeBytes int64 ,omitempty\nMode uint32 ,omitempty\nOptions [][]string ,omitempty",
    "nat.PortBinding": "HostIP string HostIp\nHostPort string",
    "container.NetworkSettings": """
        +NetworkSettingsBase container.NetworkSettingsBase
        +DefaultNetworkSettings container.DefaultNetworkSettings
        Networks map[string]*network.EndpointSettings""",
    "container.NetworkSettingsBase": """
        Bridge string
        SandboxID string
        SandboxKey string
        Ports nat.PortMap
        HairpinMode bool
        LinkLocalIPv6Address string
        LinkLocalIPv6PrefixLen int
        SecondaryIPAddresses []network.Address
        SecondaryIPv6Addresses []network.Address""",
    "container.DefaultNetworkSettings": """
        EndpointID string
        Gateway string
        GlobalIPv6Address string
        GlobalIPv6PrefixLen int
        IPAddress string
        IPPrefixLen int
        IPv6Gateway string
        MacAddress string""",
    "network.Address": "Addr string\nPrefixLen int",
    "network.EndpointSettings": """
        IPAMConfig *network.EndpointIPAMConfig
        Links []string
        Aliases []string
        MacAddress string
        DriverOpts map[string]string
        GwPriority int
        NetworkID string
        EndpointID string
        Gateway string
        IPAddress string
        IPPrefixLen int
        IPv6Gateway string
        GlobalIPv6Address string
        GlobalIPv6PrefixLen int
        DNSNames []string""",
    "network.EndpointIPAMConfig": """
        IPv4Address string ,omitempty
        IPv6Address string ,omitempty
        LinkLocalIPs []string ,omitempty""",
    "storage.DriverData": "Data map[string]string\nName string",
    "v1.Descriptor": """
        MediaType string mediaType
        Digest digest.Digest digest
        Size int64 size
        URLs []string urls,omitempty
        Annotations map[string]string annotations,omitempty
        Data []uint8 data,omitempty
        Platform *v1.Platform platform,omitempty
        ArtifactType string artifactType,omitempty""",
    "v1.Platform": """
        Architecture string architecture
        OS string os
        OSVersion string os.version,omitempty
        OSFeatures []string os.features,omitempty
        Variant string variant,omitempty""",
    "image.InspectResponse": """
        ID string Id
        RepoTags []string
        RepoDigests []string
        Parent string
        Comment string
        Created string ,omitempty
        Container string ,omitempty
        ContainerConfig *container.Config ,omitempty
        DockerVersion string
        Author string
        Config *v1.DockerOCIImageConfig
        Architecture string
        Variant string ,omitempty
        Os string
        OsVersion string ,omitempty
        Size int64
        VirtualSize int64 ,omitempty
        GraphDriver storage.DriverData
        RootFS image.RootFS
        Metadata image.Metadata
        Descriptor *v1.Descriptor ,omitempty
        Manifests []image.ManifestSummary ,omitempty""",
    "v1.DockerOCIImageConfig": """
        +ImageConfig v1.ImageConfig
        +DockerOCIImageConfigExt v1.DockerOCIImageConfigExt""",
    "v1.ImageConfig": """
        User string ,omitempty
        ExposedPorts map[string]empty ,omitempty
        Env []string ,omitempty
        Entrypoint []string ,omitempty
        Cmd []string ,omitempty
        Volumes map[string]empty ,omitempty
        WorkingDir string ,omitempty
        Labels map[string]string ,omitempty
        StopSignal string ,omitempty
        ArgsEscaped bool ,omitempty""",
    "v1.DockerOCIImageConfigExt": """
        Healthcheck *v1.HealthcheckConfig ,omitempty
        OnBuild []string ,omitempty
        Shell []string ,omitempty""",
    "image.RootFS": "Type string ,omitempty\nLayers []string ,omitempty",
    "image.Metadata": "LastTagTime time.Time ,omitempty",
    "image.ManifestSummary": """
        ID string
        Descriptor v1.Descriptor
        Available bool
        Size image.ManifestSize
        Kind string
        ImageData *image.ImageProperties ,omitempty
        AttestationData *image.AttestationProperties ,omitempty""",
    "image.ManifestSize": "Content int64\nTotal int64",
    "image.ImageProperties": "Platform v1.Platform\nSize image.UnpackedSize\nContainers []string",
    "image.UnpackedSize": "Unpacked int64",
    "image.AttestationProperties": "For digest.Digest",
    "volume.Volume": """
        ClusterVolume *volume.ClusterVolume ,omitempty
        CreatedAt string ,omitempty
        Driver string
        Labels map[string]string
        Mountpoint string
        Name string
        Options map[string]string
        Scope string
        Status map[string]any ,omitempty
        UsageData *volume.UsageData ,omitempty""",
    "volume.UsageData": "RefCount int64\nSize int64",
    "network.Inspect": """
        Name string
        ID string Id
        Created time.Time
        Scope string
        Driver string
        EnableIPv4 bool
        EnableIPv6 bool
        IPAM network.IPAM
        Internal bool
        Attachable bool
        Ingress bool
        ConfigFrom network.ConfigReference
        ConfigOnly bool
        Containers map[string]network.EndpointResource
        Options map[string]string
        Labels map[string]string
        Peers []network.PeerInfo ,omitempty
        Services map[string]network.ServiceInfo ,omitempty""",
    "network.IPAM": "Driver string\nOptions map[string]string\nConfig []network.IPAMConfig",
    "network.IPAMConfig": """
        Subnet string ,omitempty
        IPRange string ,omitempty
        Gateway string ,omitempty
        AuxAddress map[string]string AuxiliaryAddresses,omitempty""",
    "network.ConfigReference": "Network string",
    "network.EndpointResource": """
        Name string
        EndpointID string
        MacAddress string
        IPv4Address string
        IPv6Address string""",
    "network.PeerInfo": "Name string\nIP string",
    "network.ServiceInfo": "VIP string\nPorts []string\nLocalLBIndex int\nTasks []empty",
    "events.Message": """
        Status string status,omitempty
        ID string id,omitempty
        From string from,omitempty
        Type events.Type
        Action events.Action
        Actor events.Actor
        Scope string scope,omitempty
        Time int64 time,omitempty
        TimeNano int64 timeNano,omitempty""",
    "events.Actor": "ID string\nAttributes map[string]string",
    "system.versionInfo": "Client system.clientVersion\nServer *types.Version",
    "system.clientVersion": """
        Platform *system.platformInfo ,omitempty
        Version string ,omitempty
        APIVersion string ApiVersion,omitempty
        DefaultAPIVersion string ,omitempty
        GitCommit string ,omitempty
        GoVersion string ,omitempty
        Os string ,omitempty
        Arch string ,omitempty
        BuildTime string ,omitempty
        Context string
        PythonVersion string ,omitempty""",
    "system.platformInfo": "Name string ,omitempty",
    "types.Version": """
        Platform platformName ,omitempty
        Components []types.ComponentVersion ,omitempty
        Version string
        APIVersion string ApiVersion
        MinAPIVersion string ,omitempty
        GitCommit string
        GoVersion string
        Os string
        Arch string
        KernelVersion string ,omitempty
        Experimental bool ,omitempty
        BuildTime string ,omitempty""",
    "types.ComponentVersion": "Name string\nVersion string\nDetails map[string]string ,omitempty",
    "system.dockerInfo": """
        +Info *system.Info
        ServerErrors []string ,omitempty
        UserName string -
        ClientInfo *system.clientInfo ,omitempty
        ClientErrors []string ,omitempty""",
    "system.clientInfo": """
        Debug bool
        +clientVersion system.clientVersion
        Plugins []any
        Warnings []string""",
    "system.Info": """
        ID string
        Containers int
        ContainersRunning int
        ContainersPaused int
        ContainersStopped int
        Images int
        Driver string
        DriverStatus [][2]string
        SystemStatus [][2]string ,omitempty
        Plugins system.PluginsInfo
        MemoryLimit bool
        SwapLimit bool
        KernelMemory bool ,omitempty
        KernelMemoryTCP bool ,omitempty
        CPUCfsPeriod bool CpuCfsPeriod
        CPUCfsQuota bool CpuCfsQuota
        CPUShares bool
        CPUSet bool
        PidsLimit bool
        IPv4Forwarding bool
        Debug bool
        NFd int
        OomKillDisable bool
        NGoroutines int
        SystemTime string
        LoggingDriver string
        CgroupDriver string
        CgroupVersion string ,omitempty
        NEventsListener int
        KernelVersion string
        OperatingSystem string
        OSVersion string
        OSType string
        Architecture string
        IndexServerAddress string
        RegistryConfig *registry.ServiceConfig
        NCPU int
        MemTotal int64
        GenericResources []any
        DockerRootDir string
        HTTPProxy string HttpProxy
        HTTPSProxy string HttpsProxy
        NoProxy string
        Name string
        Labels []string
        ExperimentalBuild bool
        ServerVersion string
        Runtimes map[string]system.RuntimeWithStatus
        DefaultRuntime string
        Swarm swarm.Info
        LiveRestoreEnabled bool
        Isolation container.Isolation
        InitBinary string
        ContainerdCommit system.Commit
        RuncCommit system.Commit
        InitCommit system.Commit
        SecurityOptions []string
        ProductLicense string ,omitempty
        DefaultAddressPools []system.NetworkAddressPool ,omitempty
        FirewallBackend *system.FirewallInfo ,omitempty
        CDISpecDirs []string
        DiscoveredDevices []system.DeviceInfo ,omitempty
        Containerd *system.ContainerdInfo ,omitempty
        Warnings []string""",
    "system.PluginsInfo": "Volume []string\nNetwork []string\nAuthorization []string\nLog []string",
    "system.RuntimeWithStatus": "+Runtime system.Runtime\nStatus map[string]string status,omitempty",
    "system.Runtime": """
        Path string path,omitempty
        Args []string runtimeArgs,omitempty
        Type string runtimeType,omitempty
        Options map[string]any options,omitempty""",
    "system.Commit": "ID string\nExpected string",
    "system.NetworkAddressPool": "Base string\nSize int",
    "system.FirewallInfo": "Driver string\nInfo [][2]string ,omitempty",
    "system.DeviceInfo": "Source string\nID string",
    "system.ContainerdInfo": "Address string ,omitempty\nNamespaces system.ContainerdNamespaces",
    "system.ContainerdNamespaces": "Containers string\nPlugins string",
    "registry.ServiceConfig": """
        AllowNondistributableArtifactsCIDRs []string ,omitempty
        AllowNondistributableArtifactsHostnames []string ,omitempty
        InsecureRegistryCIDRs []string
        IndexConfigs map[string]*registry.IndexInfo
        Mirrors []string""",
    "registry.IndexInfo": "Name string\nMirrors []string\nSecure bool\nOfficial bool",
    "swarm.Info": """
        NodeID string
        NodeAddr string
        LocalNodeState swarm.LocalNodeState
        ControlAvailable bool
        Error string
        RemoteManagers []any
        Nodes int ,omitempty
        Managers int ,omitempty
        Cluster *swarm.ClusterInfo ,omitempty
        Warnings []string ,omitempty""",
    "context.contextWithTLSListing": """
        +Metadata store.Metadata
        TLSMaterial map[string][]string
        Storage store.StorageInfo""",
    "store.Metadata": "Name string ,omitempty\nMetadata any ,omitempty\nEndpoints map[string]any ,omitempty",
    "store.StorageInfo": "MetadataPath string\nTLSPath string",
}


def _port(value: Any) -> str:
    return str(value.raw).partition("/")[0]


def _mode(test: Callable[[str], bool]) -> Callable[[Any], bool]:
    def method(value: Any) -> bool:
        return test(value.raw)

    return method


def _is_container(mode: str) -> bool:
    return mode.startswith("container:")


def _duration(value: Any) -> str:
    from buildtool.cli.gotemplate.times import duration

    return duration(value.raw)


def _time(name: str) -> Callable[[Any], Any]:
    def method(value: Any) -> Any:
        from buildtool.cli.gotemplate import times

        return getattr(times, name)(value.raw)

    return method


METHODS: dict[str, dict[str, Callable[..., Any]]] = {
    "nat.Port": {
        "Port": lambda value: _port(value),
        "Proto": lambda value: str(value.raw).partition("/")[2] or "tcp",
        "Int": lambda value: int(_port(value) or 0),
    },
    "container.NetworkMode": {
        "IsNone": _mode(lambda mode: mode == "none"),
        "IsDefault": _mode(lambda mode: mode == "default"),
        "IsBridge": _mode(lambda mode: mode == "bridge"),
        "IsHost": _mode(lambda mode: mode == "host"),
        "IsContainer": _mode(_is_container),
        "IsPrivate": _mode(lambda mode: mode != "host" and not _is_container(mode)),
        "IsUserDefined": _mode(
            lambda mode: mode not in ("default", "bridge", "host", "none") and not _is_container(mode)
        ),
        "NetworkName": lambda value: "container" if _is_container(value.raw) else value.raw,
        "ConnectedContainer": lambda value: value.raw.removeprefix("container:") if _is_container(value.raw) else "",
    },
    "container.RestartPolicy": {
        "IsNone": lambda value: value.raw.get("Name") in ("no", ""),
        "IsAlways": lambda value: value.raw.get("Name") == "always",
        "IsOnFailure": lambda value: value.raw.get("Name") == "on-failure",
        "IsUnlessStopped": lambda value: value.raw.get("Name") == "unless-stopped",
    },
    "time.Duration": {
        "String": _duration,
        "Seconds": lambda value: value.raw / 1e9,
        "Nanoseconds": lambda value: value.raw,
    },
    "time.Time": {"String": _time("string"), "Unix": _time("unix"), "IsZero": _time("is_zero")},
}
