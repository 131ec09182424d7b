# escape=`

FROM mcr.microsoft.com/windows/servercore:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
ENV TOOLS=C:\tools `
    DATA="C:\data dir"
WORKDIR C:\app
RUN New-Item -ItemType Directory -Path $env:TOOLS; `
    # a comment
    Write-Host "done`n"
COPY src\ C:\app\
CMD ["app.exe"]
